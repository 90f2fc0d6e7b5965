import { defineConfig } from 'tsdown';

// One output file a source file, so that an import costs what it names: `import … from 'subbyte/formats/quantize'`.
export default defineConfig({
  entry: ['src/**/*.ts', '!src/**/*.test.ts', '!src/backends/wasm/kernels/**'],
  unbundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node22',
  dts: true,
  clean: true,
  logLevel: 'warn',
});
