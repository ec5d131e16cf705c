#!/bin/sh
# mypy cannot follow setuptools' package-dir mapping: show it the package as it is installed, by links.
set -eu
tree=$1
rm -rf "$tree"
mkdir -p "$tree/convbench"
for file in convbench/*; do ln -s "$PWD/$file" "$tree/convbench/"; done
ln -s "$PWD/algorithms" "$PWD/report" "$tree/convbench/"
