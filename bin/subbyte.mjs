#!/usr/bin/env node
// Starts the command line on a Node that can run it: the built files of the published package, or the TypeScript
// sources of a checkout through Node's type stripping. A checkout carries its own Node 24 as a devDependency, so an
// older system Node only has to get as far as this file.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const source = here('../src/cli/main.ts');
const built = here('../dist/src/cli/main.js');
const entry = existsSync(source) ? source : built;
const major = Number(process.versions.node.split('.')[0]);

if (major >= 24 || (entry === built && major >= 22)) {
  const { main } = await import(entry);
  process.exitCode = await main(process.argv.slice(2));
} else {
  const ownNode = here('../node_modules/node/bin/node');
  if (!existsSync(ownNode)) {
    console.error(
      `subbyte: Node ${process.versions.node} is too old, expected 24 or later; run \`npm ci\` in this folder or install Node 24`,
    );
    process.exitCode = 1;
  } else {
    const child = spawnSync(ownNode, [here('./subbyte.mjs'), ...process.argv.slice(2)], { stdio: 'inherit' });
    process.exitCode = child.status ?? (child.signal === 'SIGINT' ? 130 : 1);
  }
}
