// Which kernel runs which op on the WebGPU backend, and how to write one.
//
// A family of ops is one file in kernels/ that exports a KernelTable; it enters the backend by one import and one line
// below. Its header says what a thread and a workgroup compute, tile sizes, workgroup memory and required features. An
// OpKernel (kernel.ts) turns a node into Commands:
//
//   const square: OpKernel = {
//     encode({ inputs, outputs }) {
//       const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
//       const count = elementCount(y.shape);
//       return [{
//         bindings: { x: read(x), y: write(y) },
//         ...forEachItem(count, (n) => `${n.y}[i] = ${n.x}[i] * ${n.x}[i];`),
//       }];
//     },
//   };
//
// - Shapes are fixed at compile time: write sizes, strides and tiles into the text as constants, so that the compiler
//   unrolls loops and strength-reduces divisions. Pipelines are cached by text. Numbers that differ between nodes which
//   should share a pipeline, and floats (the text has no infinities or NaN), go into `words` and are read as words.name.
// - Always use the names that `code` is given: an output may lie on an input's memory (elementwise ops, updates of
//   states), and then both names are one. Element i of such an op is read before it is written, by the same thread.
// - A binding is a whole value. Packed values are one array<u32>; `layout` has the byte offsets of their parts.
//   decodeSource (wgsl/decode.ts) reads eight neighbouring values of a row of any format, integerSource
//   (wgsl/decode-integers.ts) their integers as bytes, encodeSource (wgsl/encode.ts) rounds to a QuantSpec.
// - Nodes of one op that follow each other may share dispatches: joins says which, encodeTogether makes them (many.ts).
//   What differs between their parts goes into `tables`, numbers in a storage buffer that are written once.
// - Several Commands of a node run one after another and see each other's writes; scratchBytes asks for memory between
//   them.
// - forEachItem and forEachGroup (entry.ts) number threads and workgroups beyond 65535. Barriers need uniform control
//   flow: what decides a loop around one must come from constants, `item`, or workgroupUniformLoad.
// - Give a var inside a loop its first value: Dawn on SwiftShader keeps the last pass's where WGSL promises zero.
// - Sums have a fixed order, so that a run gives the same bits every time: no float atomics.
// - mathSource (wgsl/math.ts) has exp, log, tanh, sigmoid, gelu to 1e-7; the built-in ones are too coarse. Never divide
//   where the result must equal the reference bit for bit: WGSL's division is within 2.5 ULP, add, subtract and
//   multiply are exact. Subnormals may be flushed to zero; a · b + c may be fused. min, max and comparisons may give
//   anything for NaN: use isNan and larger. Move data as u32, which keeps every bit.
// - A number that only the data can make wrong: `reports: true` and report(code, value); go on with something harmless.
//   Kernels that update trained weights begin with `if (failed()) { return; }`.
// - Features: look at `gpu.features`, keep a version without, list what the text needs in `enable`.
// - The op's cases in src/backends/cases/ run by themselves once the op has a kernel (backend.test.ts).

import type { Node } from '../../graph/graph.ts';
import { selectedHadamardOp } from './fuse-selected.ts';
import { fusedQuantizeOp } from './fused-quantize-op.ts';
import type { KernelTable, OpKernel } from './kernel.ts';
import { attentionKernels } from './kernels/attention.ts';
import { attentionBackwardKernels } from './kernels/attention-backward.ts';
import { compareLogitsKernels } from './kernels/compare-logits.ts';
import { crossEntropyKernels } from './kernels/cross-entropy.ts';
import { crossEntropyBackwardKernels } from './kernels/cross-entropy-backward.ts';
import { dequantizeKernels } from './kernels/dequantize.ts';
import { dgeKernels } from './kernels/dge.ts';
import { elementwiseKernels } from './kernels/elementwise.ts';
import { elementwiseBackwardKernels } from './kernels/elementwise-backward.ts';
import { embeddingBackwardKernels } from './kernels/embedding-backward.ts';
import { expertKernels } from './kernels/expert-matmul.ts';
import { fakeQuantizeKernels } from './kernels/fake-quantize.ts';
import { fusedQuantize } from './kernels/fused-quantize.ts';
import { gramKernels } from './kernels/gram.ts';
import { hadamardKernels, selectedHadamard } from './kernels/hadamard.ts';
import { kvAttentionKernels } from './kernels/kv-attention.ts';
import { kvWriteKernels } from './kernels/kv-write.ts';
import { layoutKernels } from './kernels/layout.ts';
import { matmulKernels } from './kernels/matmul.ts';
import { optimizerKernels } from './kernels/optimizers.ts';
import { outlierKernels } from './kernels/outliers.ts';
import { quantizeKernels } from './kernels/quantize.ts';
import { reduceKernels } from './kernels/reduce.ts';
import { ropeKernels } from './kernels/rope.ts';
import { roundStateKernels } from './kernels/round-state.ts';
import { rowKernels } from './kernels/rows.ts';
import { rowBackwardKernels } from './kernels/rows-backward.ts';
import { selectBitsKernels } from './kernels/select-bits.ts';
import { sortByExpertKernels } from './kernels/sort-by-expert.ts';
import { splitKernels } from './kernels/split.ts';
import { stepKernels } from './kernels/step.ts';
import { tableKernels } from './kernels/tables.ts';
import { topKKernels } from './kernels/top-k.ts';
import { transposePackedKernels } from './kernels/transpose-packed.ts';
import { boundedRound, boundedRoundOp, operandBound, operandBoundOp } from './share-bounds.ts';

export const kernels: KernelTable = {
  ...layoutKernels,
  ...elementwiseKernels,
  ...reduceKernels,
  ...rowKernels,
  ...tableKernels,
  ...splitKernels,
  ...ropeKernels,
  ...attentionKernels,
  ...matmulKernels,
  ...crossEntropyKernels,
  ...crossEntropyBackwardKernels,
  ...compareLogitsKernels,
  ...topKKernels,
  ...attentionBackwardKernels,
  ...optimizerKernels,
  ...roundStateKernels,
  ...stepKernels,
  ...fakeQuantizeKernels,
  ...dgeKernels,
  ...gramKernels,
  ...expertKernels,
  ...elementwiseBackwardKernels,
  ...rowBackwardKernels,
  ...embeddingBackwardKernels,
  ...dequantizeKernels,
  ...quantizeKernels,
  ...selectBitsKernels,
  ...hadamardKernels,
  ...kvWriteKernels,
  ...kvAttentionKernels,
  ...transposePackedKernels,
  ...outlierKernels,
  ...sortByExpertKernels,
};

/** Ops of this backend's own, which are not in the table. */
const ownKernels = new Map<object, OpKernel>([
  [fusedQuantizeOp, fusedQuantize],
  [selectedHadamardOp, selectedHadamard],
  [operandBoundOp, operandBound],
  [boundedRoundOp, boundedRound],
]);

/** The kernel of a node, of the table's ops and of this backend's own. */
export const kernelOf = ({ op }: Node): OpKernel | undefined => ownKernels.get(op) ?? kernels[op.name];
