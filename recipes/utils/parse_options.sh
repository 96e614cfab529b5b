# Sourced by every run.sh after its settings. --name value sets $name (dashes become underscores); unknown names are
# refused with status 2, and --help prints the comment at the top of run.sh.
while [ $# -gt 0 ]; do
  case "$1" in
    --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$(basename "$0")"; exit 0 ;;
    --*)
      option=${1#--}; option=${option//-/_}
      # Only names that run.sh itself sets count: $PATH or $HOME are no options.
      if ! grep -q "^$option=" "$(basename "$0")"; then echo "$0: unknown option $1 (see --help)" >&2; exit 2; fi
      if [ $# -lt 2 ]; then echo "$0: option $1 needs a value" >&2; exit 2; fi
      printf -v "$option" '%s' "$2"; shift 2 ;;
    *) echo "$0: unexpected argument $1 (see --help)" >&2; exit 2 ;;
  esac
done
