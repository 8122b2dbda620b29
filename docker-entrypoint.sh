#!/bin/sh
# Entry of the container image.
#
#   no arguments        label the images of /in, write the label images to /out (or of
#                       /workspace/inputs, to /workspace/outputs, where those are mounted)
#   options (-x ...)    the same with these options of predict.py, e.g. --device cpu or --help
#   anything else       a command to run, e.g. /bin/bash -c "sh predict.sh"
set -eu

# With a read-only root /tmp may be read-only too; /dev/shm never is. Only small files go there.
for folder in "${TMPDIR:-/tmp}" /tmp /dev/shm; do
    if [ -d "$folder" ] && [ -w "$folder" ]; then
        export TMPDIR="$folder" HOME="$folder" NUMBA_CACHE_DIR="$folder/numba" \
            MPLCONFIGDIR="$folder/matplotlib" TORCHINDUCTOR_CACHE_DIR="$folder/inductor" \
            TRITON_CACHE_DIR="$folder/triton" XDG_CACHE_HOME="$folder/cache"
        break
    fi
done

case "${1:-}" in
    "" | -*) exec python /workspace/predict.py "$@" ;;
    *) exec "$@" ;;
esac
