import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { toolVersion } from './version.ts';

it('the version in written files is that of the package', () => {
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  expect(toolVersion).toBe(manifest.version);
});
