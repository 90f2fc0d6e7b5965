// Packing of operands into panels: [k][width] with the values of `width` rows (or columns) side by side.
//
// Two sources: lines that are contiguous along k (A [M, K] and B [N, K]), which are transposed four by four in
// registers, and matrices that are contiguous along the panel (A [K, M] and B [K, N]), which are copied. Lines past
// the edge of the matrix are zero, so the tiles need no special case.

// @ts-ignore: decorator
@inline
function store4(dst: usize, step: usize, r0: v128, r1: v128, r2: v128, r3: v128): void {
  const t0 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
  const t1 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
  const t2 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
  const t3 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
  v128.store(dst, v128.shuffle<i64>(t0, t1, 0, 2));
  v128.store((dst += step), v128.shuffle<i64>(t0, t1, 1, 3));
  v128.store((dst += step), v128.shuffle<i64>(t2, t3, 0, 2));
  v128.store(dst + step, v128.shuffle<i64>(t2, t3, 1, 3));
}

// @ts-ignore: decorator
@inline
function store2(dst: usize, step: usize, r0: v128, r1: v128): void {
  const low = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
  const high = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
  v128.store64_lane(dst, low, 0);
  v128.store64_lane((dst += step), low, 1);
  v128.store64_lane((dst += step), high, 0);
  v128.store64_lane(dst + step, high, 1);
}

/** Words of 32 bits (floats, or four 8-bit codes) of `lines` lines, `stride` bytes apart, into panels of six. */
export function packLines6(src: usize, stride: usize, lines: i32, depth: i32, dst: usize): void {
  let p = 0;
  if (lines == 6) {
    for (; p + 4 <= depth; p += 4) {
      let line = src;
      const r0 = v128.load(line);
      const r1 = v128.load((line += stride));
      const r2 = v128.load((line += stride));
      const r3 = v128.load((line += stride));
      const r4 = v128.load((line += stride));
      const r5 = v128.load(line + stride);
      store4(dst, 24, r0, r1, r2, r3);
      store2(dst + 16, 24, r4, r5);
      src += 16;
      dst += 96;
    }
  }
  for (; p < depth; p++) {
    let line = src;
    for (let i = 0; i < 6; i++) {
      store<u32>(dst, i < lines ? load<u32>(line) : 0);
      line += stride;
      dst += 4;
    }
    src += 4;
  }
}

/** The same into panels of eight. */
export function packLines8(src: usize, stride: usize, lines: i32, depth: i32, dst: usize): void {
  let p = 0;
  if (lines == 8) {
    for (; p + 4 <= depth; p += 4) {
      let line = src;
      const r0 = v128.load(line);
      const r1 = v128.load((line += stride));
      const r2 = v128.load((line += stride));
      const r3 = v128.load((line += stride));
      store4(dst, 32, r0, r1, r2, r3);
      const r4 = v128.load((line += stride));
      const r5 = v128.load((line += stride));
      const r6 = v128.load((line += stride));
      const r7 = v128.load(line + stride);
      store4(dst + 16, 32, r4, r5, r6, r7);
      src += 16;
      dst += 128;
    }
  }
  for (; p < depth; p++) {
    let line = src;
    for (let i = 0; i < 8; i++) {
      store<u32>(dst, i < lines ? load<u32>(line) : 0);
      line += stride;
      dst += 4;
    }
    src += 4;
  }
}

/** The same into panels of twelve. */
export function packLines12(src: usize, stride: usize, lines: i32, depth: i32, dst: usize): void {
  let p = 0;
  if (lines == 12) {
    for (; p + 4 <= depth; p += 4) {
      let line = src;
      for (let to: usize = 0; to < 48; to += 16) {
        const r0 = v128.load(line);
        const r1 = v128.load((line += stride));
        const r2 = v128.load((line += stride));
        const r3 = v128.load((line += stride));
        store4(dst + to, 48, r0, r1, r2, r3);
        line += stride;
      }
      src += 16;
      dst += 192;
    }
  }
  for (; p < depth; p++) {
    let line = src;
    for (let i = 0; i < 12; i++) {
      store<u32>(dst, i < lines ? load<u32>(line) : 0);
      line += stride;
      dst += 4;
    }
    src += 4;
  }
}

/** Copies `depth` rows of `lines` neighbouring floats, `stride` bytes apart, into panels of `width` (6 or 8). */
export function packAcross(src: usize, stride: usize, lines: i32, width: i32, depth: i32, dst: usize): void {
  const step = (<usize>width) << 2;
  for (let p = 0; p < depth; p++) {
    if (lines == width) {
      v128.store(dst, v128.load(src));
      if (width == 8) v128.store(dst, v128.load(src, 16), 16);
      else store<u64>(dst, load<u64>(src, 16), 16);
    } else {
      for (let i = 0; i < width; i++) {
        const at = (<usize>i) << 2;
        store<f32>(dst + at, i < lines ? load<f32>(src + at) : 0);
      }
    }
    src += stride;
    dst += step;
  }
}
