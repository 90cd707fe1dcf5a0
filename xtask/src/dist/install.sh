#!/bin/sh
# Installs stackctl from the place where its release is, e.g.:
#   sh install.sh --from https://downloads.example.com/stackctl/0.1.0
# Nothing is kept of a download that is cut short or whose sum is another than SHA256SUMS says.
set -eu

usage() {
  echo "usage: sh install.sh --from URL [--to DIR] [--sums-sha256 SUM]" >&2
  echo "  --from URL         the folder of the release: SHA256SUMS and the archives" >&2
  echo "  --to DIR           where the program goes [default: ~/.local/bin]" >&2
  echo "  --sums-sha256 SUM  the sum of SHA256SUMS itself, where you know it from somewhere else" >&2
}
fail() {
  echo "error: $1" >&2
  [ $# -lt 2 ] || echo "  try: $2" >&2
  exit 1
}

from='' to='' sums_sum=''
while [ $# -gt 0 ]; do
  case $1 in
    --from) from=${2:-}; shift ;;
    --to) to=${2:-}; shift ;;
    --sums-sha256) sums_sum=${2:-}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "error: unknown argument $1" >&2; usage; exit 2 ;;
  esac
  [ $# -gt 0 ] && shift
done
[ -n "$from" ] || { usage; exit 2; }
from=${from%/}
to=${to:-${HOME:?is not set: name a folder with --to}/.local/bin}

case "$(uname -s) $(uname -m)" in
  "Linux x86_64") target=x86_64-unknown-linux-musl ;;
  "Linux aarch64") target=aarch64-unknown-linux-musl ;;
  "Darwin x86_64") target=x86_64-apple-darwin ;;
  "Darwin arm64") target=aarch64-apple-darwin ;;
  *) fail "there is no release for $(uname -s) $(uname -m)" "build it: cargo install --path . in a checkout" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

fetch() { # NAME: from the release's folder to $work/NAME
  if command -v curl >/dev/null 2>&1; then
    curl --fail --silent --show-error --location --retry 3 --connect-timeout 20 --max-time 900 \
      --output "$work/$1" "$from/$1" || fail "cannot download $from/$1"
  elif command -v wget >/dev/null 2>&1; then
    wget -q -T 60 -t 3 -O "$work/$1" "$from/$1" || fail "cannot download $from/$1"
  else
    fail "there is neither curl nor wget" "install one of them"
  fi
}
sum_of() { # FILE
  if command -v sha256sum >/dev/null 2>&1; then
    sha256sum "$1" | cut -d ' ' -f 1
  elif command -v shasum >/dev/null 2>&1; then
    shasum -a 256 "$1" | cut -d ' ' -f 1
  else
    fail "there is neither sha256sum nor shasum: the download cannot be checked" "install one of them"
  fi
}

fetch SHA256SUMS
if [ -n "$sums_sum" ] && [ "$(sum_of "$work/SHA256SUMS")" != "$sums_sum" ]; then
  fail "SHA256SUMS of $from is not the one whose sum was given"
fi
line=$(grep -E "^[0-9a-f]{64}  stackctl-[0-9A-Za-z.+-]*-$target\.tar\.gz\$" "$work/SHA256SUMS" || true)
[ -n "$line" ] || fail "SHA256SUMS of $from names no archive for $target" \
  "look what is there: it may be a page of a proxy or of a login"
[ "$(printf '%s\n' "$line" | wc -l)" -eq 1 ] || fail "SHA256SUMS of $from names several archives for $target"
expected=${line%% *}
archive=${line##* }

fetch "$archive"
actual=$(sum_of "$work/$archive")
[ "$actual" = "$expected" ] || fail "$archive is not what SHA256SUMS says: its sha256 is $actual, $expected is expected" \
  "download again; if it stays so, the file was changed on the way"

folder=${archive%.tar.gz}
tar -xzf "$work/$archive" -C "$work"
mkdir -p "$to"
# Beside its place first: a program that is running is replaced, not overwritten, and never by a half one.
cp "$work/$folder/stackctl" "$to/.stackctl.new.$$"
chmod 755 "$to/.stackctl.new.$$"
mv -f "$to/.stackctl.new.$$" "$to/stackctl"

echo "installed $("$to/stackctl" --version) in $to"
case ":${PATH:-}:" in
  *":$to:"*) ;;
  *) echo "it is not in PATH yet: export PATH=\"$to:\$PATH\"" ;;
esac
echo "completions: stackctl completions bash, man pages: stackctl man DIR"
