// Imports go one way (ARCHITECTURE.md):
// formats <- tensor <- graph <- backends <- nn <- models <- {quantize, train, search, evaluate} <- cli, studio.
// io imports formats and tensor only, settings formats and io; laws imports nothing but numerics; plot imports nothing.
// errors.ts is below everything.
const layers = [
  'formats',
  'tensor',
  'graph',
  'backends',
  'nn',
  'models',
  '(quantize|train|search|evaluate)',
  '(cli|studio)',
];
const upward = layers.slice(0, -1).map((layer, i) => ({
  name: `${layer}-imports-upward`,
  severity: 'error',
  from: { path: `^src/${layer}/`, pathNot: '\\.test\\.ts$' },
  to: { path: `^src/(${layers.slice(i + 1).join('|')})/` },
}));
export default {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    ...upward,
    {
      name: 'io-imports-formats-and-tensor-only',
      severity: 'error',
      from: { path: '^src/io/', pathNot: '\\.test\\.ts$' },
      to: { path: '^src/', pathNot: '^src/(io|formats|tensor)/|^src/errors\\.ts$' },
    },
    {
      name: 'numeric-core-does-no-io',
      severity: 'error',
      from: { path: '^src/(formats|tensor|graph|backends|nn)/', pathNot: '\\.test\\.ts$' },
      to: { path: '^src/io/' },
    },
    {
      name: 'core-runs-in-browsers',
      severity: 'error',
      from: { path: '^src/((formats|tensor|graph|nn|models)/|train/step\\.ts$)', pathNot: '\\.test\\.ts$' },
      to: { dependencyTypes: ['core'] },
    },
    {
      // What the browser tests bundle: the WebGPU and reference backends and what they are compared by.
      name: 'backends-run-in-browsers',
      severity: 'error',
      from: { path: '^src/backends/(webgpu/(backend|cases)|reference/reference-backend|op-case|op-cases)\\.ts$' },
      to: { path: '^(node:)?(fs|path|os|url|module|crypto|worker_threads|v8|process|zlib|http)(/|$)', reachable: true },
    },
    {
      name: 'settings-imports-formats-and-io-only',
      severity: 'error',
      from: { path: '^src/settings/', pathNot: '\\.test\\.ts$' },
      to: { path: '^src/', pathNot: '^src/(settings|formats|io)/|^src/errors\\.ts$' },
    },
    {
      name: 'laws-imports-numerics-only',
      severity: 'error',
      from: { path: '^src/laws/', pathNot: '\\.test\\.ts$' },
      to: { path: '^src/', pathNot: '^src/laws/|^src/errors\\.ts$' },
    },
    {
      name: 'plot-imports-errors-only',
      severity: 'error',
      from: { path: '^src/plot/', pathNot: '\\.test\\.ts$' },
      to: { path: '^src/', pathNot: '^src/plot/|^src/errors\\.ts$' },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
  },
};
