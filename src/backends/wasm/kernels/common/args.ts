// Reading the argument words of a command.

// @ts-ignore: decorator
@inline
export function word(args: usize, i: i32): i32 {
  return load<i32>(args + (<usize>i << 2));
}

// @ts-ignore: decorator
@inline
export function address(args: usize, i: i32): usize {
  return load<usize>(args + (<usize>i << 2));
}

// @ts-ignore: decorator
@inline
export function real(args: usize, i: i32): f32 {
  return load<f32>(args + (<usize>i << 2));
}

/** Address of 32-bit element `i`. */
// @ts-ignore: decorator
@inline
export function at(base: usize, i: i32): usize {
  return base + (<usize>i << 2);
}

// @ts-ignore: decorator
@inline
export function sumLanes(v: v128): f32 {
  return (
    f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3))
  );
}

// @ts-ignore: decorator
@inline
export function maxLanes(v: v128): f32 {
  return max(
    max(f32x4.extract_lane(v, 0), f32x4.extract_lane(v, 1)),
    max(f32x4.extract_lane(v, 2), f32x4.extract_lane(v, 3)),
  );
}

/** One f32 in lane 0 (the same in every lane), for the elements that no full vector covers. */
// @ts-ignore: decorator
@inline
export function loadOne(p: usize): v128 {
  return v128.load32_splat(p);
}

// @ts-ignore: decorator
@inline
export function storeOne(p: usize, v: v128): void {
  v128.store32_lane(p, v, 0);
}
