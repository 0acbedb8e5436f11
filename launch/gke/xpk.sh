#!/usr/bin/env bash
# Train on a GKE cluster made by xpk: the JobSet of jobset.sh, as xpk writes it.
#
#   launch/gke/xpk.sh TRAIN_FLAGS...
#
# The workload restarts after a pre-emption or the loss of a host, but not after a mistake in the
# input (exit code 1) or a divergence (3). Once it has failed or completed, delete it
# (xpk workload delete) and run the same command again; training resumes.
#
# environment: ICT_NAME, ICT_CLUSTER, ICT_PROJECT, ICT_ZONE   workload, cluster, project, zone
#              ICT_IMAGE          container image with this package, see Dockerfile
#              ICT_TPU_TYPE       e.g. v5litepod-16
#              ICT_SLICES         default 1
#              ICT_MAX_RESTARTS   default 10
#              ICT_GRACE_SECS     time to save after SIGTERM, default 300

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

[[ ${1:-} != --help && ${1:-} != -h ]] || { usage; exit 0; }
need ICT_NAME my-run "the name of the workload"
need ICT_CLUSTER my-cluster "the name of the cluster"
need ICT_PROJECT my-project "the Google Cloud project"
need ICT_ZONE us-west4-a "the zone of the cluster"
need ICT_IMAGE LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/ict_jax "the container image"
need ICT_TPU_TYPE v5litepod-16 "the TPU type"
ICT_SLICES=${ICT_SLICES:-1} ICT_MAX_RESTARTS=${ICT_MAX_RESTARTS:-10} ICT_GRACE_SECS=${ICT_GRACE_SECS:-300}
for name in ICT_SLICES ICT_GRACE_SECS; do need_count "$name"; done
need_number ICT_MAX_RESTARTS 10
need_flags "$@"

# exec: xpk sends SIGTERM to the shell that this runs in. It is restarted after 71, processes were
# lost or did not start; 74, a checkpoint could not be written; 75, saved after SIGTERM; and by xpk
# itself after 42 and 127 to 255, such as 134 of a process that JAX aborts. It is not restarted after
# 1, a mistake, and 3, diverged.
exec xpk workload create \
  --workload="$ICT_NAME" --cluster="$ICT_CLUSTER" --project="$ICT_PROJECT" --zone="$ICT_ZONE" \
  --tpu-type="$ICT_TPU_TYPE" --num-slices="$ICT_SLICES" --docker-image="$ICT_IMAGE" \
  --max-restarts="$ICT_MAX_RESTARTS" --restart-on-exit-codes=71,74,75 \
  --termination-grace-period-seconds="$ICT_GRACE_SECS" \
  --command="exec python -m ict_jax.cli.train $(quoted "$@")"
