// How a tile of a matrix product's operand comes from storage into workgroup memory as f16.
//
// Problem: tensor cores take f16; operands lie in storage as f32, bf16 or f16, or packed in few bits with block scales.
// Method: a thread moves chunks along the contiguous axis with 16-byte loads. A load goes to registers while the previous
// tile is multiplied; conversion to f16, with the block's scale folded in, happens on the way to workgroup memory.
//
// Range: f16 has 30 binades of normal numbers, so numbers are multiplied by a power of two on the way, `factor`, which puts
// the largest of the operand below 2^15; the product is multiplied by its inverse. Codes of E2M1 under E8M0 scales, and
// bf16, then stay exact over at least 26 binades below the operand's largest number; what is smaller loses bits or becomes
// zero, an error below 2^-38 of the largest. Codes of E2M1 under E4M3 scales (NVFP4) need no factor: all are normal f16.
//
// Order along K: four-bit codes are decoded in pairs (i, i + 4) of a word of eight, which takes half the instructions of
// neighbours. All that matters is that both operands agree: `paired` puts every operand's eights in this order.

/** How the numbers of an operand are stored. `eight`: read eight at a time as f32 by a function NAMEEight(row, k). */
export type OperandStorage = 'f32' | 'bf16' | 'f16' | 'mxfp4' | 'nvfp4' | `int4-g${number}` | 'eight';

/** `k`: consecutive numbers of the reduction axis lie together (A as [M, K], B as [N, K]); `outer`: those of M or N. */
export type OperandAxis = 'k' | 'outer';

export interface TileOperand {
  /** Prefix of variables in WGSL. */
  readonly name: 'a' | 'b';
  /** WGSL names of the bound arrays: numbers or codes (vec4<f32> or vec4<u32>), scales (u32, or f16 for int4). */
  readonly array: string;
  readonly scales?: string;
  readonly storage: OperandStorage;
  readonly contiguous: OperandAxis;
  /** Rows (columns) of the whole operand along M or N, and along K. */
  readonly outer: number;
  readonly k: number;
  /** The tile's sizes along both. */
  readonly tileOuter: number;
  readonly tileK: number;
  readonly threads: number;
  /** First row of the workgroup's tile, a WGSL expression. */
  readonly origin: string;
  /** Line of the whole array where the operand's matrix begins, a WGSL expression. */
  readonly firstLine: string;
  /** Eights along K in the order 0 4 1 5 2 6 3 7. */
  readonly paired: boolean;
}

/** WGSL pieces of one operand. They read `thread`, `k0`, and the f32 `NAME_factor` or i32 `NAME_exponent` of the operand. */
export interface TileCode {
  /** Functions and constants at module scope. */
  readonly declarations: string;
  /** Elements of the workgroup array `NAME_tile`: vec4<u32>, eight f16 each. */
  readonly tileVectors: number;
  /** Distance of two lines of the tile, in f16; lines go along the contiguous axis. */
  readonly stride: number;
  /** Registers that a load fills. */
  readonly registers: string;
  /** Loads the tile that starts at the variable `k0` into the registers. */
  readonly load: string;
  /** Writes the registers to workgroup memory, `offset` vectors behind its start. */
  store(offset: number): string;
}

// Workgroup memory is declared as vec4<u32>, not as f16: a compiler then knows that lines are aligned to 16 bytes and
// may move eight numbers with one instruction.

/** Eight f16 of padding make the addresses of eight successive lines fall into different banks. */
const padding = 8;
/** f16 in an element of workgroup memory. */
export const perVector = 8;

/** Numbers that a thread moves at a time; K, or M and N where they are contiguous, must be a multiple. */
export const chunkNumbers = (storage: OperandStorage): number =>
  storage === 'mxfp4' || storage === 'nvfp4' || storage.startsWith('int4') ? 32 : 8;

/** Storages that can have M or N contiguous. */
export const isElementwise = (storage: OperandStorage): boolean => ['f32', 'bf16', 'f16'].includes(storage);

/** Throws where the tile cannot be cut into chunks of whole threads. */
export function tileCode(operand: TileOperand): TileCode {
  const { name, storage, contiguous, tileOuter, tileK, threads, paired, outer, k, origin, firstLine } = operand;
  if (!isElementwise(storage) && contiguous !== 'k') throw new Error(`matmul: ${storage} is packed along K`);
  const chunk = chunkNumbers(storage);
  const [lines, length] = contiguous === 'k' ? [tileOuter, tileK] : [tileK, tileOuter];
  const chunks = (lines * length) / chunk / threads;
  if (chunks < 1 || chunks % 1 !== 0 || length % chunk !== 0)
    throw new Error(`matmul: a ${lines} × ${length} tile of ${storage} does not divide among ${threads} threads`);
  const stride = length + padding;
  const code = storageCode(operand);
  const perLine = length / chunk;
  const at = Array.from({ length: chunks }, (_, i) => {
    const line = `((thread + ${i * threads}u) / ${perLine}u)`;
    const column = `((thread + ${i * threads}u) % ${perLine}u * ${chunk}u)`;
    return { i, line, column };
  });
  const load = (i: number, line: string, column: string) => {
    const isK = contiguous === 'k';
    const [row, first] = isK ? [`${origin} + ${line}`, `k0 + ${column}`] : [`k0 + ${line}`, `${origin} + ${column}`];
    const [rows, columns] = isK ? [outer, k] : [k, outer];
    const [tileRows, tileColumns] = isK ? [tileOuter, tileK] : [tileK, tileOuter];
    // Beyond M or N the last numbers are read again, whose results nobody stores; beyond K numbers must be zero.
    const clamped = (index: string, size: number, step: number) => `min(${index}, ${size - step}u)`;
    const safeRow = isK && rows % tileRows ? clamped(row, rows, 1) : row;
    const safeFirst = !isK && columns % tileColumns ? clamped(first, columns, chunk) : first;
    const read = code.load(i, `(${firstLine} + ${safeRow})`, `(${safeFirst})`, columns);
    if (k % tileK === 0) return read;
    return `if (${isK ? first : row} < ${k}u) { ${read} } else { ${code.clear(i)} }`;
  };
  const tileLine = (line: string) => (contiguous === 'outer' && paired ? `paired_line(${line})` : line);
  return {
    declarations: code.declarations + (contiguous === 'outer' && paired ? pairedLine : ''),
    tileVectors: (lines * stride) / perVector,
    stride,
    registers: at.map(({ i }) => code.registers(i)).join('\n'),
    load: at.map(({ i, line, column }) => load(i, line, column)).join('\n'),
    store: (offset) =>
      at
        .map(
          ({ i, line, column }) =>
            `{ let to = ${offset}u + ${tileLine(line)} * ${stride / perVector}u + ${column} / ${perVector}u;\n${code.decode(i, (v, part) => `${name}_tile[to + ${part}u] = ${v};`)} }`,
        )
        .join('\n'),
  };
}

/** Where line 8 i + j of K goes when eights are paired. */
const pairedLine = `
fn paired_line(line: u32) -> u32 { return (line & ~7u) | ((line & 3u) << 1u) | ((line >> 2u) & 1u); }
`;

interface StorageCode {
  declarations: string;
  registers(i: number): string;
  /** Reads a chunk from column `first` of a row of `columns` numbers. */
  load(i: number, row: string, first: string, columns: number): string;
  clear(i: number): string;
  /** `put(value, part)` writes eight f16 as one vec4<u32>. */
  decode(i: number, put: (value: string, part: number) => string): string;
}

function storageCode({ name, array, scales, storage, contiguous, paired }: TileOperand): StorageCode {
  const along = contiguous === 'k' && paired;
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
        decode: (i, put) => `let scale = e8m0_f16(${words(i)}_s & 0xffu, ${name}_exponent);
${[0, 1, 2, 3].map((w) => put(`fp4_eight(${words(i)}[${w}], scale)`, w)).join('\n')}`,
      };
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
        ) => `let low = half_e4m3_f16(${words(i)}_s & 0x7fu); let high = half_e4m3_f16((${words(i)}_s >> 8u) & 0x7fu);
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
        decode: (i, put) => [0, 1, 2, 3].map((w) => put(`int4_eight(${words(i)}[${w}], ${words(i)}_s)`, w)).join('\n'),
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

// Twice an E2M1 magnitude is min(x, 2x − 2), x being 1.0 with the code's three bits added to exponent and mantissa: no
// table, no subnormals. `scale` carries the half.
export const fp4Source = `
fn fp4_pair(codes: u32, scale: f16) -> u32 {
  let x = bitcast<vec2<f16>>(((codes << 9u) & 0x0e000e00u) + 0x3c003c00u);
  let magnitude = min(x, x + x - vec2<f16>(2.0h)) * scale;
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

const e4m3Source = `
fn half_e4m3_f16(code: u32) -> f16 {
  let normal = bitcast<vec2<f16>>(select((code << 7u) + 0x1c00u, 0x7e00u, code == 127u)).x;
  return select(normal, f16(code) * 0.0009765625h, code < 8u);
}
`;

// A code c + 8 in the mantissa of 1024 is the number 1024 + c + 8: two's complement codes after flipping their top bit.
const int4Source = `
fn int4_pair(c: u32, scale: f16) -> u32 {
  let bits = ((c ^ 0x00080008u) & 0x000f000fu) | 0x64006400u;
  return bitcast<u32>((bitcast<vec2<f16>>(bits) - vec2<f16>(1032.0h)) * scale);
}
fn int4_eight(c: u32, scale: f16) -> vec4<u32> {
  return vec4<u32>(int4_pair(c, scale), int4_pair(c >> 4u, scale), int4_pair(c >> 8u, scale), int4_pair(c >> 12u, scale));
}
`;
