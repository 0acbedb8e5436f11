#!/usr/bin/env bash
# Train on TPU slices of a GKE cluster, as a JobSet; kubectl must point to the cluster.
#
#   launch/gke/jobset.sh TRAIN_FLAGS...           fill in jobset.yaml and apply it
#   launch/gke/jobset.sh --print TRAIN_FLAGS...   print it instead
#
# The JobSet restarts pre-empted pods. Once it has failed or completed, the same command starts it
# anew, and training resumes from its work directory.
#
# environment: ICT_NAME              name of the JobSet
#              ICT_IMAGE             container image with this package, see Dockerfile
#              ICT_TPU_ACCELERATOR   e.g. tpu-v5-lite-podslice
#              ICT_TPU_TOPOLOGY      e.g. 4x4
#              ICT_HOSTS             hosts (VMs) per slice, e.g. 4
#              ICT_SLICES            default 1
#              ICT_CHIPS             per host, default 4
#              ICT_MAX_RESTARTS      default 10
#              ICT_GRACE_SECS        time to save after SIGTERM, default 300

set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
source "$here/../common.sh"

[[ ${1:-} != --help && ${1:-} != -h ]] || { usage; exit 0; }
print_only=
[[ ${1:-} != --print ]] || { print_only=yes; shift; }
need ICT_NAME my-run "the name of the JobSet"
need ICT_IMAGE LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/ict_jax "the container image"
need ICT_TPU_ACCELERATOR tpu-v5-lite-podslice "the node label of the accelerator"
need ICT_TPU_TOPOLOGY 4x4 "the topology of a slice"
need ICT_HOSTS 4 "the number of hosts of a slice"
ICT_SLICES=${ICT_SLICES:-1} ICT_CHIPS=${ICT_CHIPS:-4}
ICT_MAX_RESTARTS=${ICT_MAX_RESTARTS:-10} ICT_GRACE_SECS=${ICT_GRACE_SECS:-300}
for name in ICT_HOSTS ICT_SLICES ICT_CHIPS ICT_GRACE_SECS; do need_count "$name"; done
need_number ICT_MAX_RESTARTS 10
need_flags "$@"

# As JSON strings, which YAML reads.
TRAIN_FLAGS=
for flag in "$@"; do
  flag=${flag//\\/\\\\}
  TRAIN_FLAGS+=", \"${flag//\"/\\\"}\""
done
TRAIN_FLAGS=${TRAIN_FLAGS#, }

manifest=$(<"$here/jobset.yaml")
for name in ICT_NAME ICT_IMAGE ICT_TPU_ACCELERATOR ICT_TPU_TOPOLOGY ICT_HOSTS ICT_SLICES ICT_CHIPS \
  ICT_MAX_RESTARTS ICT_GRACE_SECS TRAIN_FLAGS; do
  manifest=${manifest//"\${$name}"/"${!name}"}
done
if [[ $print_only ]]; then
  echo "$manifest"
  exit
fi
state=$(kubectl get jobset "$ICT_NAME" --ignore-not-found --output='jsonpath={.status.terminalState}')
[[ -z $state ]] || kubectl delete jobset "$ICT_NAME" --wait
kubectl apply --filename=- <<<"$manifest"
