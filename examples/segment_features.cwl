# Segments images and measures what was found: segment --> objects --> features.
#
#   cwltool --outdir out examples/segment_features.cwl --images slides
#
# exactile segment runs in its container; the other two need a Python with exactile[features].
cwlVersion: v1.2
class: Workflow
label: Segment images and measure the objects
inputs:
  images:
    type: Directory
  model:
    type: Directory?
  tileSize:
    type: string?
  normalization:
    type: string?
steps:
  segment:
    run: ../exactile.cwl
    in:
      inpDir: images
      outDir:
        default:
          class: Directory
          basename: labels
          listing: []
      model: model
      tileSize: tileSize
      normalization: normalization
    out: [segmented]
  label:
    run: label_objects.cwl
    in:
      inpDir: segment/segmented
    out: [objects]
  measure:
    run: measure_objects.cwl
    in:
      intDir: images
      segDir: label/objects
    out: [features]
outputs:
  labels:
    type: Directory
    outputSource: segment/segmented
  objects:
    type: Directory
    outputSource: label/objects
  features:
    type: File
    outputSource: measure/features
