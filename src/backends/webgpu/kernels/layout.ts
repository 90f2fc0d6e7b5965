// Ops that move dense data: reshape, transpose, slice, concat, pad, broadcastTo.
//
// Thread map: one thread for each element, which walks the merged dimensions of both layouts (concat: one dispatch an
// input; pad: one thread for each element of the result). A transpose whose last dimension is not the one that lies side
// by side in x goes through workgroup memory in tiles of 32×32 (4.1 KB): 256 threads read rows of the tile as they lie in
// x and write its columns as they lie in y. No features. Data moves as u32, so every bit survives.

import type {
  ConcatAttributes,
  PadAttributes,
  SliceAttributes,
  TransposeAttributes,
} from '../../../graph/ops/layout.ts';
import { elementCount, type Shape } from '../../../tensor/shape.ts';
import { broadcastStrides, mergeDimensions, strides } from '../../dimensions.ts';
import { forEachGroup, forEachItem } from '../entry.ts';
import { type Command, type DenseOperand, dense, type KernelTable, type OpKernel, read, write } from '../kernel.ts';
import { offsetStatements } from '../wgsl/offsets.ts';

/** A place in memory: row-major strides from a first element. */
interface Layout {
  readonly first: number;
  readonly strides: readonly number[];
}

/** y[to] = x[from] for every element of `shape`. */
function copy(x: DenseOperand, from: Layout, y: DenseOperand, to: Layout, shape: Shape): Command {
  const rows = mergeDimensions(shape, [from.strides, to.strides]);
  return {
    bindings: { x: read(x, 'u32'), y: write(y, 'u32') },
    ...forEachItem(
      elementCount(shape),
      (n) => `${offsetStatements(rows, 'i', 'at')}
  ${n.y}[${to.first}u + at1] = ${n.x}[${from.first}u + at0];`,
    ),
  };
}

const tile = 32;
const tileThreads = 256;

/** The same by tiles of the dimension that is innermost in x and the one that is in y; undefined where that is one. */
function throughTiles(x: DenseOperand, from: readonly number[], y: DenseOperand): Command | undefined {
  const rows = mergeDimensions(y.shape, [from, strides(y.shape)]);
  const inner = rows.findIndex(([, stride]) => stride === 1);
  const last = rows.length - 1;
  if (inner < 0 || inner === last || rows[inner][0] < 8 || rows[last][0] < 8) return undefined;
  const [[width, , toWidth], [height, fromHeight]] = [rows[inner], rows[last]];
  const rest = rows.filter((_, d) => d !== inner && d !== last);
  const batches = rest.length > 0 ? rest : [[1, 0, 0]];
  const [across, down] = [Math.ceil(width / tile), Math.ceil(height / tile)];
  const count = across * down * elementCount(rest.map(([size]) => size));
  return {
    label: 'tiles',
    bindings: { x: read(x, 'u32'), y: write(y, 'u32') },
    ...forEachGroup(
      count,
      tileThreads,
      (n) => `${offsetStatements(batches, `(item / ${across * down}u)`, 'at')}
  let left = item % ${across}u * ${tile}u;
  let top = item / ${across}u % ${down}u * ${tile}u;
  let near = thread % ${tile}u;
  for (var far = thread / ${tile}u; far < ${tile}u; far += ${tileThreads / tile}u) {
    if (left + near < ${width}u && top + far < ${height}u) {
      tile[far * ${tile + 1}u + near] = ${n.x}[at0 + (top + far) * ${fromHeight}u + left + near];
    }
  }
  workgroupBarrier();
  for (var far = thread / ${tile}u; far < ${tile}u; far += ${tileThreads / tile}u) {
    if (left + far < ${width}u && top + near < ${height}u) {
      ${n.y}[at1 + (left + far) * ${toWidth}u + top + near] = tile[near * ${tile + 1}u + far];
    }
  }`,
      `var<workgroup> tile: array<u32, ${tile * (tile + 1)}>;\n`,
    ),
  };
}

const whole = (operand: DenseOperand): Layout => ({ first: 0, strides: strides(operand.shape) });

/** The output is the input's memory: nothing to run. */
const reshape: OpKernel = { encode: () => [] };

const transpose: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { permutation } = node.attributes as unknown as TransposeAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    const own = strides(x.shape);
    const from = { first: 0, strides: permutation.map((d) => own[d]) };
    return [throughTiles(x, from.strides, y) ?? copy(x, from, y, whole(y), y.shape)];
  },
};

const slice: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { axis, start } = node.attributes as unknown as SliceAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    const from = strides(x.shape);
    return [copy(x, { first: start * from[axis], strides: from }, y, whole(y), y.shape)];
  },
};

const concat: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { axis } = node.attributes as unknown as ConcatAttributes;
    const y = dense(outputs, 0);
    const to = strides(y.shape);
    let first = 0;
    return inputs.map((_, i) => {
      const x = dense(inputs, i);
      const command = copy(x, whole(x), y, { first, strides: to }, x.shape);
      first += to[axis] * x.shape[axis];
      return command;
    });
  },
};

const pad: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { axis, before } = node.attributes as unknown as PadAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    const inner = elementCount(x.shape.slice(axis + 1));
    const [size, length] = [y.shape[axis] * inner, x.shape[axis] * inner];
    return [
      {
        bindings: { x: read(x, 'u32'), y: write(y, 'u32') },
        ...forEachItem(
          elementCount(y.shape),
          (n) => `let outer = i / ${size}u;
  let at = i % ${size}u - ${before * inner}u; /* wraps below the first element of x */
  if (at < ${length}u) { ${n.y}[i] = ${n.x}[outer * ${length}u + at]; } else { ${n.y}[i] = 0u; }`,
        ),
      },
    ];
  },
};

const broadcastTo: OpKernel = {
  encode({ inputs, outputs }) {
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    return [copy(x, { first: 0, strides: broadcastStrides(x.shape, y.shape) }, y, whole(y), y.shape)];
  },
};

export const layoutKernels: KernelTable = { reshape, transpose, slice, concat, pad, broadcastTo };
