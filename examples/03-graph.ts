// Trace a small graph, see its memory before it runs, run it on two backends. Run: node examples/03-graph.ts

import type { Backend } from '../src/backends/backend.ts';
import { createReferenceBackend } from '../src/backends/reference/reference-backend.ts';
import { createWasmBackend } from '../src/backends/wasm/backend.ts';
import { quantize } from '../src/formats/quantize.ts';
import { parseFormat } from '../src/formats/registry.ts';
import { matmul } from '../src/graph/ops/matmul.ts';
import { quantize as quantizeOp } from '../src/graph/ops/quantize.ts';
import { printGraph } from '../src/graph/print.ts';
import { trace } from '../src/graph/trace.ts';
import { f32, packed } from '../src/graph/value-type.ts';
import { gaussianMatrix } from '../src/quantize/gaussian.ts';
import { qtensor } from '../src/tensor/tensor.ts';

const [M, N, K] = [4, 64, 128];
const format = parseFormat('mxfp4');
const weight = qtensor([N, K], quantize(gaussianMatrix(N, K, 1), N, K, format));
const x = gaussianMatrix(M, K, 2);

// y = quantize(x) · Wᵀ: with both operands in MXFP4 the product runs on exact integers
const graph = trace((g) => {
  const input = g.input('x', f32([M, K]));
  const w = g.param('w', packed([N, K], format));
  g.output('y', matmul(quantizeOp(input, format), w, { transposeB: true }));
});
console.log(printGraph(graph));

async function run(backend: Backend): Promise<Float32Array> {
  const executable = await backend.compile(graph, { params: new Map([['w', await backend.upload(weight)]]) });
  console.log(`${backend.name}: ${executable.plan.peakBytes} bytes at the fullest moment`);
  executable.write('x', x);
  await executable.run();
  const { data } = await executable.read('y');
  backend.dispose();
  return data as Float32Array;
}

const a = await run(createReferenceBackend());
const b = await run(await createWasmBackend());
console.log(`largest difference ${Math.max(...a.map((v, i) => Math.abs(v - b[i]))).toExponential(1)}`);
