// The norm of all gradients and the guard of an update.
//
// sumSquares takes the squares of a value, then sums rows, then the rows' sums: three commands for each value, with the
// squares and sums of one value at a time in scratch memory.

import type { Value } from '../../../graph/graph.ts';
import { unaryKinds } from '../../../graph/ops/unary.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { type Command, dense, type OpEncoder, rowsAndColumns } from '../encoder.ts';
import { holdUpdatesKernel, unaryKernel } from '../kernel-ids.ts';
import { reduceCommand } from './rows.ts';

const square = unaryKinds.indexOf('square');

/** Bytes of the squares, rounded up so that the sums behind them are aligned. */
const squareBytes = (count: number) => Math.ceil((4 * count) / 64) * 64;
const scratchOf = ({ type: { shape } }: Value) => squareBytes(elementCount(shape)) + 4 * rowsAndColumns(shape)[0];

export const sumSquaresEncoder: OpEncoder = {
  scratchBytes: ({ inputs }) => Math.max(...inputs.map(scratchOf)),
  encode({ inputs, outputs, scratch }) {
    const y = dense(outputs, 0);
    return inputs.flatMap((_, i): Command[] => {
      const x = dense(inputs, i);
      const count = elementCount(x.shape);
      const [rows, columns] = rowsAndColumns(x.shape);
      const squares = { shape: [rows, columns], address: scratch };
      const sums = { shape: [rows], address: scratch + squareBytes(count) };
      const result = { shape: [1], address: y.address + 4 * i };
      const squaring = { kernel: unaryKernel, args: [square, x.address, squares.address, count] };
      if (x.shape.length < 2)
        return [squaring, reduceCommand({ ...squares, shape: [count] }, result, { kind: 'sum', axes: [0] })];
      return [
        squaring,
        reduceCommand(squares, sums, { kind: 'sum', axes: [1] }),
        reduceCommand(sums, result, { kind: 'sum', axes: [0] }),
      ];
    });
  },
};

export const holdUpdatesEncoder: OpEncoder = {
  encode({ inputs }) {
    const x = dense(inputs, 0);
    return [{ kernel: holdUpdatesKernel, args: [x.address, elementCount(x.shape)] }];
  },
};
