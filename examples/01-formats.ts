// Quantize a few numbers and look at what is stored. Run: node examples/01-formats.ts

import { quantizedBytes } from '../src/formats/format.ts';
import { dequantize, quantize } from '../src/formats/quantize.ts';
import { parseFormat } from '../src/formats/registry.ts';

const rows = 2;
const cols = 64;
const values = Float32Array.from({ length: rows * cols }, (_, i) => Math.sin(i) * (i % 16 === 0 ? 4 : 1));

for (const name of ['int8-channel', 'int4-g32-asym', 'mxfp4', 'nvfp4', 'q8_0', 'hif4']) {
  const stored = quantize(values, rows, cols, parseFormat(name));
  const back = dequantize(stored);
  let signal = 0;
  let noise = 0;
  for (let i = 0; i < values.length; i++) {
    signal += values[i] ** 2;
    noise += (values[i] - back[i]) ** 2;
  }
  const qsnr = 10 * Math.log10(signal / noise);
  console.log(`${name.padEnd(14)} ${String(quantizedBytes(stored)).padStart(4)} bytes  ${qsnr.toFixed(1)} dB`);
}
