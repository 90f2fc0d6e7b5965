// An output that is measured and not written: formats that no container holds, and comparisons of methods.

import { formatBytes } from '../formats/registry.ts';
import type { OutputKind } from './output.ts';
import { matrixShape } from './tensor-quantizer.ts';

export const noOutput: OutputKind = {
  async check() {},
  async write({ plan, weights }) {
    let bytes = 0;
    let quantizedBytes = 0;
    for (const name of weights.names()) {
      const { rows, cols } = matrixShape(weights.shape(name));
      const format = plan.formats.get(name);
      const size = formatBytes(format ?? weights.format(name), rows, cols);
      bytes += size;
      if (format) quantizedBytes += size;
    }
    return { path: '', files: [], bytes, quantizedBytes, notes: [], seconds: 0 };
  },
  finished: async () => undefined,
  formatInFile: ({ plan }, name) => plan.formats.get(name),
  relativeError: () => 0,
};
