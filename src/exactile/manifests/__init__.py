"""What workflow engines read about `exactile segment`, generated so that it cannot drift.

    settings.SegmentSettings --+
                               +--> described --> wipp, ict, cwl, argo --> files
    options.OPTIONS -----------+

The settings say which options there are, which are required, their choices and defaults; the table
in `options` adds what only people can say. `python -m exactile.manifests` writes the files; a test
compares the committed ones with what would be written.
"""
