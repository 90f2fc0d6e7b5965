// What npm would publish: packed, unpacked elsewhere, imported and type-checked as an installed package.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const project = fileURLToPath(new URL('..', import.meta.url));
const isBuilt = existsSync(path.join(project, 'dist/src/cli/main.js'));
const reason = isBuilt ? '' : ' (skipped: not built, run `npm run build`)';

describe.skipIf(!isBuilt)(`the published package${reason}`, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'subbyte-package-'));
  const modules = path.join(folder, 'node_modules');
  const run = (file: string, ...args: string[]) =>
    execFileSync(process.execPath, [file, ...args], { cwd: folder, encoding: 'utf8' });

  beforeAll(() => {
    const packed = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
      cwd: project,
      encoding: 'utf8',
    });
    const [{ filename }] = JSON.parse(packed) as { filename: string }[];
    execFileSync('tar', ['-xzf', filename], { cwd: folder });
    mkdirSync(modules);
    renameSync(path.join(folder, 'package'), path.join(modules, 'subbyte'));
    symlinkSync(path.join(project, 'node_modules'), path.join(modules, 'subbyte/node_modules'));
  }, 120_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('its command runs from the compiled files and finds what ships with it', () => {
    const command = path.join(modules, 'subbyte/bin/subbyte.mjs');
    expect(existsSync(path.join(modules, 'subbyte/src'))).toBe(false);
    expect(run(command, 'formats', '--no-qsnr')).toMatch(/mxfp4/);
    expect(run(command, 'inspect', path.join(modules, 'subbyte/models/qwen3-6m'))).toMatch(/qwen3/i);
    expect(run(command, 'eval', path.join(modules, 'subbyte/models/qwen3-6m'), '--tokens', '1024')).toMatch(
      /perplexity/,
    );
    expect(run(command, 'reproduce', '--help')).toMatch(/quartet-law/);
  }, 60_000);

  test('a program imports single files, with their types', () => {
    writeFileSync(
      path.join(folder, 'use.mts'),
      `import { createWasmBackend } from 'subbyte/backends/wasm/backend';
import { parseFormat } from 'subbyte/formats/registry';
import { quantize, type QuantizeOptions } from 'subbyte/formats/quantize';
import manifest from 'subbyte/package.json' with { type: 'json' };

const options: QuantizeOptions = { seed: 1 };
// @ts-expect-error a seed is a number: fails when the types are not found and everything is any
const wrong: QuantizeOptions = { seed: 'one' };
const packed = quantize(new Float32Array(64).fill(1.5), 2, 32, parseFormat('mxfp4'), options);
const backend = await createWasmBackend({ threads: 1 });
console.log(packed.codes.length, manifest.version, backend.name, wrong.stream);
backend.dispose();
`,
    );
    const tsc = path.join(project, 'node_modules/typescript/bin/tsc');
    const options = [
      '--strict',
      '--module',
      'NodeNext',
      '--target',
      'ESNext',
      '--types',
      'node',
      '--skipLibCheck',
      'false',
    ];
    run(tsc, ...options, '--typeRoots', path.join(project, 'node_modules/@types'), 'use.mts');
    expect(run('use.mjs')).toMatch(/^32 0\.\d+\.\d+ wasm undefined\n$/);
  }, 120_000);
});
