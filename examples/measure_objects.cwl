# nyxus, which is public, on the objects beside the images. Needs a Python with nyxus.
cwlVersion: v1.2
class: CommandLineTool
label: Features of objects
requirements:
  NetworkAccess:
    networkAccess: false
hints:
  SoftwareRequirement:
    packages:
      nyxus:
        version: ["0.11.0"]
baseCommand: python
arguments:
  - prefix: --outFile
    valueFrom: features.csv
inputs:
  script:
    type: File
    default:
      class: File
      location: measure_objects.py
    inputBinding:
      position: -1
  intDir:
    type: Directory
    inputBinding:
      prefix: --intDir
  segDir:
    type: Directory
    inputBinding:
      prefix: --segDir
outputs:
  features:
    type: File
    outputBinding:
      glob: features.csv
