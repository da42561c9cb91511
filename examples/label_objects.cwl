# Needs a Python with exactile[features]; it has no container of its own.
cwlVersion: v1.2
class: CommandLineTool
label: Objects from class numbers
requirements:
  NetworkAccess:
    networkAccess: false
hints:
  SoftwareRequirement:
    packages:
      scipy:
        version: ["1.17.1"]
baseCommand: python
arguments:
  - prefix: --outDir
    valueFrom: objects
inputs:
  script:
    type: File
    default:
      class: File
      location: label_objects.py
    inputBinding:
      position: -1
  inpDir:
    type: Directory
    inputBinding:
      prefix: --inpDir
outputs:
  objects:
    type: Directory
    outputBinding:
      glob: objects
