import { fileURLToPath } from 'node:url';
import { defineConfig } from 'tsdown';

const source = fileURLToPath(new URL('./src/', import.meta.url));

const common = { format: 'esm', platform: 'node', target: 'node22', logLevel: 'warn' } as const;

export default defineConfig([
  // One output file a source file, so that an import costs what it names: `import … from 'subbyte/formats/quantize'`.
  {
    ...common,
    entry: ['src/**/*.ts', '!src/**/*.test.ts', '!src/backends/wasm/kernels/**'],
    unbundle: true,
    dts: true,
    clean: ['dist'],
  },
  // The experiments of `subbyte reproduce`, in dist/reproduce; what they import of src is the files above.
  {
    ...common,
    entry: ['reproduce/*.ts', '!reproduce/data.ts'],
    outDir: 'dist/reproduce',
    dts: false,
    clean: false,
    plugins: [
      {
        name: 'built-sources',
        resolveId(id: string, importer: string | undefined) {
          if (!importer || !id.startsWith('.')) return;
          const file = fileURLToPath(new URL(id, `file://${importer}`));
          if (!file.startsWith(source)) return;
          return { id: `../${file.slice(source.length).replace(/\.ts$/, '.mjs')}`, external: true };
        },
      },
    ],
  },
]);
