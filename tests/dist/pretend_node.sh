#!/bin/sh
# Stands in for ssh: "pretend_node.sh nodeK COMMAND..." runs the command here, as on machine K of the stand-in for CUDA.
CUDA_HOST_NODE=${1#node}
export CUDA_HOST_NODE
shift
exec sh -c "$*"
