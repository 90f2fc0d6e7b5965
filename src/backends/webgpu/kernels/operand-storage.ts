// Operands of products on tensor cores as they are stored, and how they become f16 in registers (matmul-operand.ts).

/** How the numbers of an operand are stored. `eight`: read eight at a time as f32 by a function NAMEEight(row, k). */
export type OperandStorage =
  | 'f32'
  | 'bf16'
  | 'f16'
  | 'mxfp4'
  | 'nvfp4'
  | `${'fp8' | 'mxfp8'}-${'e4m3' | 'e5m2'}`
  | `int4-g${number}`
  | 'eight';

/** Numbers that a thread moves at a time; K, or M and N where they are contiguous, must be a multiple. */
export function chunkNumbers(storage: OperandStorage): number {
  if (isFp4(storage) || storage.startsWith('int4')) return 32;
  return storage.includes('fp8') ? 16 : 8;
}

/** Storages that can have M or N contiguous. */
export const isElementwise = (storage: OperandStorage): boolean =>
  ['f32', 'bf16', 'f16', 'fp8-e4m3', 'fp8-e5m2'].includes(storage);

/** Storages whose codes come in pairs along K. */
export const isFp4 = (storage: OperandStorage): boolean => storage === 'mxfp4' || storage === 'nvfp4';

/** Exponent of the largest element, by storage with E8M0 scales. */
export const mxLargest: Readonly<Partial<Record<OperandStorage, number>>> = {
  mxfp4: 2,
  'mxfp8-e4m3': 8,
  'mxfp8-e5m2': 15,
};

export interface StoredOperand {
  /** Prefix of variables in WGSL. */
  readonly name: string;
  readonly array: string;
  readonly scales?: string;
  readonly storage: OperandStorage;
  /** Chunks go along K. */
  readonly alongK: boolean;
  /** Eights along K in the order 0 4 1 5 2 6 3 7. */
  readonly paired: boolean;
}

/** WGSL pieces of a storage. */
export interface StorageCode {
  declarations: string;
  registers(i: number): string;
  /** Reads a chunk from column `first` of a row of `columns` numbers. */
  load(i: number, row: string, first: string, columns: number): string;
  clear(i: number): string;
  /** `put(value, part)` writes eight f16 as one vec4<u32>. */
  decode(i: number, put: (value: string, part: number) => string): string;
}

export function storageCode({ name, array, scales, storage, alongK, paired }: StoredOperand): StorageCode {
  const along = alongK && paired;
  const words = (i: number) => `${name}_${i}`;
  const vectors = {
    registers: (i: number) => `var ${words(i)}: vec4<u32>;`,
    clear: (i: number) => `${words(i)} = vec4<u32>();`,
  };
  const eight = (i: number) =>
    `${along ? 'half_pairs' : 'half_neighbours'}(${words(i)}_low * ${name}_factor, ${words(i)}_high * ${name}_factor)`;
  const floats = {
    declarations: halfSource,
    registers: (i: number) => `var ${words(i)}_low: vec4<f32>; var ${words(i)}_high: vec4<f32>;`,
    clear: (i: number) => `${words(i)}_low = vec4<f32>(); ${words(i)}_high = vec4<f32>();`,
    decode: (i: number, put: (value: string, part: number) => string) => put(eight(i), 0),
  };
  switch (storage) {
    case 'f32':
      return {
        ...floats,
        load: (i, row, first, columns) =>
          `{ let at = (${row} * ${columns}u + ${first}) / 4u; ${words(i)}_low = ${array}[at]; ${words(i)}_high = ${array}[at + 1u]; }`,
      };
    case 'eight':
      return {
        ...floats,
        load: (i, row, first) =>
          `{ let eight = ${name}Eight(${row}, ${first}); ${words(i)}_low = eight.low; ${words(i)}_high = eight.high; }`,
      };
    case 'bf16':
      return {
        ...vectors,
        declarations: halfSource + bf16Source,
        load: (i, row, first, columns) => `${words(i)} = ${array}[(${row} * ${columns}u + ${first}) / 8u];`,
        decode: (i, put) => put(`${along ? 'bf16_pairs' : 'bf16_neighbours'}(${words(i)}, ${name}_factor)`, 0),
      };
    case 'f16':
      return {
        ...vectors,
        declarations: halfSource,
        load: (i, row, first, columns) => `${words(i)} = ${array}[(${row} * ${columns}u + ${first}) / 8u];`,
        decode: (i, put) => put(along ? `paired_halves(${words(i)})` : words(i), 0),
      };
    case 'mxfp4':
      return {
        declarations: fp4Source + exp2Source,
        registers: (i) => `var ${words(i)}: vec4<u32>; var ${words(i)}_s: u32;`,
        clear: vectors.clear,
        load: (i, row, first, columns) => `{ let block = (${row} * ${columns}u + ${first}) / 32u;
${words(i)} = ${array}[block]; ${words(i)}_s = ${scales}[block / 4u] >> (8u * (block % 4u)); }`,
        decode: (i, put) => `let scale = e8m0_f16(${words(i)}_s & 0xffu, ${name}_exponent - 1);
${[0, 1, 2, 3].map((w) => put(`fp4_eight(${words(i)}[${w}], scale)`, w)).join('\n')}`,
      };
    case 'fp8-e4m3':
    case 'fp8-e5m2': {
      const eight = fp8Eight(storage, along);
      return {
        ...vectors,
        declarations: fp8Source,
        load: (i, row, first, columns) => `${words(i)} = ${array}[(${row} * ${columns}u + ${first}) / 16u];`,
        decode: (i, put) => [0, 1].map((half) => put(eight(words(i), half), half)).join('\n'),
      };
    }
    case 'mxfp8-e4m3':
    case 'mxfp8-e5m2': {
      const eight = fp8Eight(storage, along);
      return {
        declarations: fp8Source + exp2Source,
        registers: (i) => `var ${words(i)}: vec4<u32>; var ${words(i)}_s: u32;`,
        clear: vectors.clear,
        load: (i, row, first, columns) => `{ let at = (${row} * ${columns}u + ${first}) / 16u;
${words(i)} = ${array}[at]; ${words(i)}_s = ${scales}[at / 8u] >> (4u * (at & 6u)); }`,
        decode: (i, put) => `let scale = e8m0_f16(${words(i)}_s & 0xffu, ${name}_exponent + 1);
${[0, 1].map((half) => put(`scaled_halves(${eight(words(i), half)}, scale)`, half)).join('\n')}`,
      };
    }
    case 'nvfp4':
      return {
        declarations: fp4Source + e4m3Source,
        registers: (i) => `var ${words(i)}: vec4<u32>; var ${words(i)}_s: u32;`,
        clear: vectors.clear,
        load: (i, row, first, columns) => `{ let block = (${row} * ${columns}u + ${first}) / 32u;
${words(i)} = ${array}[block]; ${words(i)}_s = ${scales}[block / 2u] >> (16u * (block % 2u)); }`,
        decode: (
          i,
          put,
        ) => `let low = quarter_e4m3_f16(${words(i)}_s & 0x7fu); let high = quarter_e4m3_f16((${words(i)}_s >> 8u) & 0x7fu);
${[0, 1, 2, 3].map((w) => put(`fp4_eight(${words(i)}[${w}], ${w < 2 ? 'low' : 'high'})`, w)).join('\n')}`,
      };
    default: {
      const perGroup = Number(storage.slice('int4-g'.length)) / 32;
      return {
        declarations: int4Source,
        registers: (i) => `var ${words(i)}: vec4<u32>; var ${words(i)}_s: f16;`,
        // codes of zeros are the number 0
        clear: vectors.clear,
        load: (i, row, first, columns) => `{ let block = (${row} * ${columns}u + ${first}) / 32u;
${words(i)} = ${array}[block]; ${words(i)}_s = ${scales}[block / ${perGroup}u]; }`,
        decode: (i, put) =>
          [0, 1, 2, 3]
            .map((w) => put(`${along ? 'int4_pairs' : 'int4_neighbours'}(${words(i)}[${w}], ${words(i)}_s)`, w))
            .join('\n'),
      };
    }
  }
}

const halfSource = `
fn half_pair(x: f32, y: f32) -> u32 { return bitcast<u32>(vec2<f16>(vec2<f32>(x, y))); }
fn half_neighbours(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(half_pair(a.x, a.y), half_pair(a.z, a.w), half_pair(b.x, b.y), half_pair(b.z, b.w));
}
fn half_pairs(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(half_pair(a.x, b.x), half_pair(a.y, b.y), half_pair(a.z, b.z), half_pair(a.w, b.w));
}
fn paired_halves(w: vec4<u32>) -> vec4<u32> {
  return vec4<u32>((w.x & 0xffffu) | (w.z << 16u), (w.x >> 16u) | (w.z & 0xffff0000u),
    (w.y & 0xffffu) | (w.w << 16u), (w.y >> 16u) | (w.w & 0xffff0000u));
}
`;

const bf16Source = `
fn bf16_neighbours(w: vec4<u32>, factor: f32) -> vec4<u32> {
  let even = bitcast<vec4<f32>>(w << vec4<u32>(16u)) * factor;
  let odd = bitcast<vec4<f32>>(w & vec4<u32>(0xffff0000u)) * factor;
  return vec4<u32>(half_pair(even.x, odd.x), half_pair(even.y, odd.y), half_pair(even.z, odd.z), half_pair(even.w, odd.w));
}
fn bf16_pairs(w: vec4<u32>, factor: f32) -> vec4<u32> {
  let even = bitcast<vec4<f32>>(w << vec4<u32>(16u)) * factor;
  let odd = bitcast<vec4<f32>>(w & vec4<u32>(0xffff0000u)) * factor;
  return vec4<u32>(half_pair(even.x, even.z), half_pair(odd.x, odd.z), half_pair(even.y, even.w), half_pair(odd.y, odd.w));
}
`;

// Four times an E2M1 magnitude is min(x, 2x − 4), x being 2.0 with the code's three bits in the low bits of the exponent
// and the high one of the mantissa, all zeros in 2.0: no table, no subnormals. `scale` carries the quarter.
export const fp4Source = `
fn fp4_pair(codes: u32, scale: f16) -> u32 {
  let x = bitcast<vec2<f16>>(((codes << 9u) & 0x0e000e00u) | 0x40004000u);
  let magnitude = min(x, x + x - vec2<f16>(4.0h)) * scale;
  return bitcast<u32>(magnitude) ^ ((codes << 12u) & 0x80008000u);
}
fn fp4_eight(codes: u32, scale: f16) -> vec4<u32> {
  return vec4<u32>(fp4_pair(codes, scale), fp4_pair(codes >> 4u, scale),
    fp4_pair(codes >> 8u, scale), fp4_pair(codes >> 12u, scale));
}
`;

const exp2Source = `
fn e8m0_f16(code: u32, exponent: i32) -> f16 {
  let e = i32(code) + exponent;
  let small = select(0u, 1u << u32(clamp(e + 24, 0, 10)), e >= -24);
  let bits = select(select(small, u32(clamp(e, -14, 15) + 15) << 10u, e >= -14), 0x7e00u, code == 255u);
  return bitcast<vec2<f16>>(bits).x;
}
`;

/** Text of eight f16 (vec4<u32>) from half of the four words of sixteen FP8 codes. */
function fp8Eight(storage: OperandStorage, paired: boolean): (words: string, half: number) => string {
  const order = paired ? 'pairs' : 'neighbours';
  const element = storage.endsWith('e4m3') ? 'e4m3' : 'e5m2';
  return (words, half) => `${element}_${order}(${words}[${2 * half}], ${words}[${2 * half + 1}])`;
}

// E4M3: with the exponent moved up by 8, y, a number is min(y, 2y − 2^-6), as with E2M1; the code of NaN gets the bit that
// makes its exponent f16's largest. E5M2 is the upper byte of an f16.
const fp8Source = `
fn e4m3_two(c: u32) -> u32 {
  let codes = c & 0x007f007fu;
  let y = bitcast<vec2<f16>>((codes << 7u) + 0x20002000u);
  let magnitude = bitcast<u32>(min(y, y + y - vec2<f16>(0.015625h)));
  return magnitude | (((codes + 0x00010001u) & 0x00800080u) << 6u) | ((c & 0x00800080u) << 8u);
}
fn e5m2_two(c: u32) -> u32 { return (c & 0x00ff00ffu) << 8u; }
fn byte_neighbours(c: u32) -> u32 { return (c & 0xffu) | ((c & 0xff00u) << 8u); }
fn byte_pair(low: u32, high: u32, shift: u32) -> u32 { return ((low >> shift) & 0xffu) | (((high >> shift) & 0xffu) << 16u); }
${['e4m3', 'e5m2']
  .map(
    (e) => `fn ${e}_neighbours(low: u32, high: u32) -> vec4<u32> {
  return vec4<u32>(${e}_two(byte_neighbours(low)), ${e}_two(byte_neighbours(low >> 16u)),
    ${e}_two(byte_neighbours(high)), ${e}_two(byte_neighbours(high >> 16u)));
}
fn ${e}_pairs(low: u32, high: u32) -> vec4<u32> {
  return vec4<u32>(${e}_two(byte_pair(low, high, 0u)), ${e}_two(byte_pair(low, high, 8u)),
    ${e}_two(byte_pair(low, high, 16u)), ${e}_two(byte_pair(low, high, 24u)));
}`,
  )
  .join('\n')}
fn scaled_halves(eight: vec4<u32>, scale: f16) -> vec4<u32> {
  return vec4<u32>(bitcast<u32>(bitcast<vec2<f16>>(eight.x) * scale), bitcast<u32>(bitcast<vec2<f16>>(eight.y) * scale),
    bitcast<u32>(bitcast<vec2<f16>>(eight.z) * scale), bitcast<u32>(bitcast<vec2<f16>>(eight.w) * scale));
}
`;

const e4m3Source = `
fn quarter_e4m3_f16(code: u32) -> f16 {
  let normal = bitcast<vec2<f16>>(select((code << 7u) + 0x1800u, 0x7e00u, code == 127u)).x;
  return select(normal, f16(code) * 0.00048828125h, code < 8u);
}
`;

// A code c + 8 in the mantissa of 1024 is the number 1024 + c + 8: two's complement codes after flipping their top bit.
const int4Source = `
fn int4_pair(c: u32, scale: f16) -> u32 {
  let bits = ((c ^ 0x00080008u) & 0x000f000fu) | 0x64006400u;
  return bitcast<u32>((bitcast<vec2<f16>>(bits) - vec2<f16>(1032.0h)) * scale);
}
fn int4_pairs(c: u32, scale: f16) -> vec4<u32> {
  return vec4<u32>(int4_pair(c, scale), int4_pair(c >> 4u, scale), int4_pair(c >> 8u, scale), int4_pair(c >> 12u, scale));
}
fn int4_two(c: u32, scale: f16) -> u32 { return int4_pair((c & 0xfu) | ((c << 12u) & 0xf0000u), scale); }
fn int4_neighbours(c: u32, scale: f16) -> vec4<u32> {
  return vec4<u32>(int4_two(c, scale), int4_two(c >> 8u, scale), int4_two(c >> 16u, scale), int4_two(c >> 24u, scale));
}
`;
