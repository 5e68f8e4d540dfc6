# Sourced by the launchers: finds the Node that package.json brings (also where npm hoisted it), and the tree to run:
# the sources as they are in a checkout, dist/ in a published package.
node= dir=$here
while [ "$dir" != / ]; do
  dir=$(dirname "$dir")
  [ -x "$dir/node_modules/node/bin/node" ] && node=$dir/node_modules/node/bin/node && break
done
[ -n "$node" ] || { echo "slipway: its Node is missing; run 'npm install' in $(dirname "$here")" >&2; exit 1; }
if [ -d "$here/../src" ]; then tree=src ext=ts; else tree=dist ext=js; fi
# Compiled code is kept, the first module's too: a start costs half the time and memory.
: "${NODE_COMPILE_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/slipway/code}"
export NODE_COMPILE_CACHE
