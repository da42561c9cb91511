"""Statistics of whole images, measured apart from their segmentation, in parts if need be.

    exactile statistics  --> outDir/exactile/statistics/<image>.json             all of an image
                             outDir/exactile/statistics/<image>.<i>-of-<n>.json  what shard i/n read
    exactile segment --statistics outDir

`record` is what a file holds, `folder` finds the files of an image and puts them together,
`recorded` fits a normalisation with them, `measuring` writes them. Whichever way the numbers are
come by, they have the same bits (`exactile.normalization.gathering`).
"""
