# --name value sets $name (dashes become underscores); unknown names are refused.
while [ $# -gt 0 ]; do
  case "$1" in
    --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    --*)
      option=${1#--}; option=${option//-/_}
      if [ -z "${!option+set}" ]; then echo "$0: unknown option $1 (see --help)" >&2; exit 2; fi
      if [ $# -lt 2 ]; then echo "$0: option $1 needs a value" >&2; exit 2; fi
      printf -v "$option" '%s' "$2"; shift 2 ;;
    *) echo "$0: unexpected argument $1 (see --help)" >&2; exit 2 ;;
  esac
done
