#!/bin/sh
# The organisers' command. More options may follow, e.g. `sh predict.sh --device cpu`; they win.
exec python "$(dirname "$0")/predict.py" -i "/workspace/inputs/" -o "/workspace/outputs/" "$@"
