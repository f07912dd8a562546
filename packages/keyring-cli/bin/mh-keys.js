#!/usr/bin/env node
const [major, minor] = process.versions.node.split('.').map(Number);
if (major > 22 || (major === 22 && minor >= 18)) {
  // Not before it is known that this Node understands it.
  const { main } = await import('../dist/main.js');
  // Set, not called: what is still on its way into a pipe gets there.
  process.exitCode = await main(process.argv.slice(2));
} else {
  console.error(`error: mh-keys wants Node 22.18 or later, and this is ${process.versions.node}. [usage]`);
  console.error('hint: In a clone, type `npx mh-keys`: it takes the Node that `npm ci` installed.');
  process.exitCode = 2;
}
