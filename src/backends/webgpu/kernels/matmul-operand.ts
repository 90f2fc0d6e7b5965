// How a tile of a matrix product's operand comes from storage into workgroup memory as f16.
//
// Problem: tensor cores take f16; operands lie in storage as f16, or packed in few bits with a scale for each block.
// Method: a thread moves chunks of one 16-byte load along the contiguous axis. The load goes to registers while the
// previous tile is multiplied; decoding to f16, with the block's scale folded in, happens on the way to workgroup memory.
// FP4 codes are looked up in packed constants and never pass through f16 subnormals, which a device may flush.
//
// Scales: E2M1 times a power of two between 2^-13 and 2^13 is a normal f16 and so exact. A block scale 2^(e - reference)
// is folded in, `reference` being one exponent of the whole operand; the caller multiplies the result by 2^reference.
// Outside of that window blocks must take another kernel (perf: exact products only).

/** How the numbers of an operand are stored. */
export type OperandStorage = 'f16' | 'mxfp4' | 'int4-g128';

/** `k`: consecutive numbers of the reduction axis lie together (A as [M, K], B as [N, K]); `outer`: those of M or N. */
export type OperandAxis = 'k' | 'outer';

export interface TileOperand {
  /** Prefix of names in WGSL: `a` or `b`. */
  readonly name: string;
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
}

/** WGSL pieces of one operand. */
export interface TileCode {
  /** Storage bindings, each without group and binding numbers. */
  readonly bindings: readonly string[];
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
  /** Writes the registers to workgroup memory, `offset` elements behind its start. */
  store(offset: string): string;
}

// Workgroup memory is declared as vec4<u32>, not as f16: a compiler then knows that lines are aligned to 16 bytes and
// may move eight numbers with one instruction.

/** Eight f16 of padding make the addresses of eight successive lines fall into different banks. */
const padding = 8;
/** f16 in an element of workgroup memory. */
export const perVector = 8;

/** Throws where the tile cannot be cut into 16-byte loads of whole threads. */
export function tileCode(operand: TileOperand): TileCode {
  const { name, storage, contiguous, tileOuter, tileK, threads } = operand;
  if (storage !== 'f16' && contiguous !== 'k') throw new Error(`matmul: packed ${storage} is packed along K`);
  const chunk = chunkNumbers[storage];
  const [lines, length] = contiguous === 'k' ? [tileOuter, tileK] : [tileK, tileOuter];
  const chunks = (lines * length) / chunk / threads;
  if (chunks < 1 || chunks % 1 !== 0 || length % chunk !== 0)
    throw new Error(`matmul: a ${lines} × ${length} tile of ${storage} does not divide among ${threads} threads`);
  const stride = length + padding;
  const at = Array.from({ length: chunks }, (_, i) => ({
    i,
    line: `((local + ${i * threads}u) / ${length / chunk}u)`,
    column: `((local + ${i * threads}u) % ${length / chunk}u)`,
  }));
  const { bindings, registers, load, decode, declarations } = storages[storage](operand, chunk);
  return {
    bindings,
    declarations,
    tileVectors: (lines * stride) / perVector,
    stride,
    registers: at.map(({ i }) => registers(i)).join('\n'),
    load: at.map(({ i, line, column }) => load(i, line, column)).join('\n'),
    store: (offset) =>
      at
        .map(
          ({ i, line, column }) =>
            `{ let to = ${offset} + ${line} * ${stride / perVector}u + ${column} * ${chunk / perVector}u;\n${decode(i, (v, part) => `${name}_tile[to + ${part}u] = ${v};`)} }`,
        )
        .join('\n'),
  };
}

const chunkNumbers: Record<OperandStorage, number> = { f16: 8, mxfp4: 32, 'int4-g128': 32 };

interface StorageCode {
  bindings: string[];
  declarations: string;
  registers(i: number): string;
  load(i: number, line: string, column: string): string;
  /** `put(value, part)` writes eight f16 as one vec4<u32>. */
  decode(i: number, put: (value: string, part: number) => string): string;
}

const storages: Record<OperandStorage, (operand: TileOperand, chunk: number) => StorageCode> = {
  f16: ({ name, contiguous, outer, k, origin }, chunk) => ({
    bindings: [`var<storage, read> ${name}: array<vec4<u32>>`],
    declarations: '',
    registers: (i) => `var ${name}_${i}: vec4<u32>;`,
    load: (i, line, column) =>
      contiguous === 'k'
        ? `${name}_${i} = ${name}[(${origin} + ${line}) * ${k / chunk}u + k0 / ${chunk}u + ${column}];`
        : `${name}_${i} = ${name}[(k0 + ${line}) * ${outer / chunk}u + ${origin} / ${chunk}u + ${column}];`,
    decode: (i, put) => put(`${name}_${i}`, 0),
  }),
  mxfp4: ({ name, k, origin }) => ({
    bindings: [
      `var<storage, read> ${name}: array<vec4<u32>>`,
      `var<storage, read> ${name}_scales: array<u32>`,
      `var<storage, read> ${name}_reference: i32`,
    ],
    declarations: fp4Decoder,
    registers: (i) => `var ${name}_${i}: vec4<u32>; var ${name}_s${i}: u32;`,
    load: (i, line, column) => `{ let block = (${origin} + ${line}) * ${k / 32}u + k0 / 32u + ${column};
${name}_${i} = ${name}[block]; ${name}_s${i} = ${name}_scales[block / 4u] >> (8u * (block % 4u)); }`,
    decode: (i, put) => `let scale = exp2_f16(i32(${name}_s${i} & 0xffu) - ${name}_reference);
${[0, 1, 2, 3].map((w) => put(`fp4_eight(${name}_${i}[${w}], scale)`, w)).join('\n')}`,
  }),
  'int4-g128': ({ name, k, origin }) => ({
    bindings: [`var<storage, read> ${name}: array<vec4<u32>>`, `var<storage, read> ${name}_scales: array<f16>`],
    declarations: int4Decoder,
    registers: (i) => `var ${name}_${i}: vec4<u32>; var ${name}_s${i}: f16;`,
    load: (i, line, column) => `{ let block = (${origin} + ${line}) * ${k / 32}u + k0 / 32u + ${column};
${name}_${i} = ${name}[block]; ${name}_s${i} = ${name}_scales[block / 4u]; }`,
    decode: (i, put) => [0, 1, 2, 3].map((w) => put(`int4_eight(${name}_${i}[${w}], ${name}_s${i})`, w)).join('\n'),
  }),
};

/** `fp4_bits(code)`: an E2M1 code as the bits of an f16. Magnitudes 0 … 6 are the upper bytes 00 38 3c 3e | 40 42 44 46. */
export const fp4BitsSource = `fn fp4_bits(code: u32) -> u32 {
  let magnitudes = select(0x3e3c3800u, 0x46444240u, (code & 4u) != 0u);
  return (((magnitudes >> (8u * (code & 3u))) & 0xffu) << 8u) | ((code & 8u) << 12u);
}`;

const fp4Decoder = `${fp4BitsSource}
fn fp4_pair(codes: u32, scale: f16) -> u32 {
  return bitcast<u32>(bitcast<vec2<f16>>(fp4_bits(codes & 15u) | (fp4_bits((codes >> 4u) & 15u) << 16u)) * scale);
}
fn fp4_eight(codes: u32, scale: f16) -> vec4<u32> {
  return vec4<u32>(fp4_pair(codes, scale), fp4_pair(codes >> 8u, scale),
    fp4_pair(codes >> 16u, scale), fp4_pair(codes >> 24u, scale));
}
fn exp2_f16(exponent: i32) -> f16 {
  return bitcast<vec2<f16>>(u32(clamp(exponent, -13, 13) + 15) << 10u).x;
}`;

// A code c + 8 in the mantissa of 1024 is the number 1024 + c + 8: two's complement codes after flipping their top bit.
const int4Decoder = `
fn int4_pair(c: u32, scale: f16) -> u32 {
  let bits = (c & 0xfu) | ((c & 0xf0u) << 12u) | 0x64006400u;
  return bitcast<u32>((bitcast<vec2<f16>>(bits) - vec2<f16>(1032.0h)) * scale);
}
fn int4_eight(codes: u32, scale: f16) -> vec4<u32> {
  let c = codes ^ 0x88888888u;
  return vec4<u32>(int4_pair(c, scale), int4_pair(c >> 8u, scale), int4_pair(c >> 16u, scale), int4_pair(c >> 24u, scale));
}`;
