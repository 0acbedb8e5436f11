# Sourced by the launchers: help, errors, settings from the environment.
# shellcheck shell=bash

# Print the comment at the head of the script.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

fail() {
  echo "error: $*" >&2
  exit 1
}

# need NAME EXAMPLE WHAT: the variable must be set.
need() {
  [[ -n ${!1:-} ]] || fail "$1, $3, is missing; set it, as in export $1=$2."
}

# need_count NAME: the variable must be a whole number from 1.
need_count() {
  [[ ${!1} =~ ^[1-9][0-9]*$ ]] || fail "$1=${!1} must be a whole number from 1; set it, as in export $1=2."
}

# need_number NAME EXAMPLE: the variable must be a whole number from 0.
need_number() {
  [[ ${!1} =~ ^(0|[1-9][0-9]{0,8})$ ]] || fail "$1=${!1} must be a whole number from 0; set it, as in export $1=$2."
}

# need_python INTERPRETER: it must exist.
need_python() {
  command -v "$1" >/dev/null || fail "the interpreter '$1' was not found; set PYTHON, as in export PYTHON=.venv/bin/python."
}

# need_flags FLAGS...: the flags of the training; several hosts can share nothing but a bucket.
need_flags() {
  [[ " $*" =~ " --config"[=\ ] ]] ||
    fail "--config is missing; give it, as in --config=configs/cifar10_ict.py."
  [[ " $*" =~ " --workdir"[=\ ]"gs://" ]] ||
    fail "--workdir must be a bucket that all hosts reach; give it, as in --workdir=gs://BUCKET/RUN."
}

# quoted WORDS...: the words in one line, quoted for a shell.
quoted() {
  local line
  printf -v line ' %q' "$@"
  echo "${line# }"
}
