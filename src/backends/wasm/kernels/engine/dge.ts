// The smoothed slope of rounding to the levels of a format: graph/ops/dge.ts has the formula.
//
// z and the position between two levels are f64, since the slope is steep midway; the power is f32.
//
// Words: x, dy, dx, rows, columns, number of levels, words before the source description, cap, exponent 1/k − 1 and 1/k
// as f64 (two words each), slack as f64, levels (f32, ascending), source description of the packed rounding of x.

import { address, at, real, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { sourceGroup, sourceScale, sourceTensorScale } from './matmul-decode';

export function dgeBackward(args: usize, thread: i32, threads: i32): void {
  const rows = word(args, 3);
  const columns = word(args, 4);
  const count = word(args, 5);
  const source = at(args, word(args, 6));
  const cap = real(args, 7);
  const exponent = <f32>load<f64>(args, 32);
  const factor = <f32>load<f64>(args, 40);
  const slack = load<f64>(args, 48);
  const levels = args + 56;
  const lowest = <f64>load<f32>(levels) * (1 + slack);
  const highest = <f64>load<f32>(at(levels, count - 1)) * (1 + slack);
  const group = sourceGroup(source);
  const tensorScale = <f64>sourceTensorScale(source);
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    let scale: f64 = 0;
    for (let c = 0; c < columns; c++) {
      if (c % group == 0) scale = <f64>sourceScale(source, r, c / group) * tensorScale;
      const i = r * columns + c;
      const z = scale == 0 ? <f64>0 : <f64>load<f32>(at(address(args, 0), i)) / scale;
      let slope: f32 = 0;
      if (z >= lowest && z <= highest) {
        // The last level that is not above z, but never the outermost one.
        let low = 0;
        let high = count - 1;
        while (high - low > 1) {
          const middle = (low + high) >> 1;
          if (z >= <f64>load<f32>(at(levels, middle))) low = middle;
          else high = middle;
        }
        const below = <f64>load<f32>(at(levels, low));
        const width = <f64>load<f32>(at(levels, high)) - below;
        const u = <f32>abs((2 * (z - below)) / width - 1);
        slope = min(NativeMathf.pow(u, exponent) * factor, cap);
      }
      store<f32>(at(address(args, 2), i), slope * load<f32>(at(address(args, 1), i)));
    }
  }
}
