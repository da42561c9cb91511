#!/bin/sh
# Run the plugin's container on a folder, as a workflow engine would.
#
#   ./run-plugin.sh INPUT_FOLDER OUTPUT_FOLDER [options of `exactile segment`]
#
# The input, and what --model, --stitchingVector or --statistics names, are mounted read-only; there is
# no network.
# GPUs are passed on where there are any, to the image whose tag ends in -cuda if that was built.
# CONTAINER_ENGINE chooses docker or podman; by default the one that is installed.
set -eu

if [ $# -lt 2 ]; then
    echo "usage: $0 INPUT_FOLDER OUTPUT_FOLDER [options of exactile segment]" >&2
    exit 2
fi
if [ ! -d "$1" ]; then
    echo "$0: $1 is not a folder: give the folder of images" >&2
    exit 2
fi
mkdir -p "$2"
input=$(cd "$1" && pwd)
output=$(cd "$2" && pwd)
shift 2

here=$(cd "$(dirname "$0")" && pwd)
image="exactile/exactile:$(cat "$here/VERSION")"

engine=${CONTAINER_ENGINE:-}
for candidate in docker podman; do
    if [ -z "$engine" ] && command -v "$candidate" >/dev/null 2>&1; then
        engine=$candidate
    fi
done
if [ -z "$engine" ]; then
    echo "$0: neither docker nor podman is installed" >&2
    exit 2
fi

gpus=
if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then
    case $engine in
        *podman*) gpus="--device nvidia.com/gpu=all" ;;
        *) gpus="--gpus all" ;;
    esac
    if "$engine" image inspect "$image-cuda" >/dev/null 2>&1; then
        image=$image-cuda
    fi
fi

# Values that name a file or folder here are given by the name that it has in the container; an
# option and its value may be two words, or one with = between them.
model=
vector=
statistics=
option=
for word; do
    shift
    name=${word%%=*}
    case $option/$name in
        --model/* | --stitchingVector/* | --statistics/*)
            name=$option
            prefix=
            value=$word
            ;;
        */--model | */--stitchingVector | */--statistics)
            prefix=$name=
            value=${word#*=}
            [ "$name" != "$word" ] || value=
            ;;
        *) value= ;;
    esac
    option=$word
    if [ -n "$value" ] && [ -e "$value" ]; then
        path=$(cd "$(dirname "$value")" && pwd)/$(basename "$value")
        case $name in
            --model) model=$path ;;
            --stitchingVector) vector=$path ;;
            --statistics) statistics=$path ;;
        esac
        word=$prefix/data/${name#--}/$(basename "$path")
    fi
    set -- "$@" "$word"
done

# Without root, podman's own user would be mapped: files would belong to somebody else.
namespace=
case $engine in
    *podman*) [ "$(id -u)" = 0 ] || namespace=--userns=keep-id ;;
esac

# $gpus is one option and its value, or nothing: it must be split, and so is $namespace.
# shellcheck disable=SC2086
exec "$engine" run --rm --network none --read-only --cap-drop ALL --user "$(id -u):$(id -g)" $namespace $gpus \
    -e POLUS_LOG -e POLUS_IMG_EXT -e NUM_THREADS \
    -v "$input:/data/inputs:ro" -v "$output:/data/outputs" \
    ${model:+-v "$model:/data/model/$(basename "$model"):ro"} \
    ${vector:+-v "$vector:/data/stitchingVector/$(basename "$vector"):ro"} \
    ${statistics:+-v "$statistics:/data/statistics/$(basename "$statistics"):ro"} \
    "$image" --inpDir /data/inputs --outDir /data/outputs "$@"
