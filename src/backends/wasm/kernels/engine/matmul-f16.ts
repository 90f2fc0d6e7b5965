// Half precision, one value at a time: the scales of many formats.

/** f16 bits to f32: shift exponent and mantissa into place, multiply by 2^112 (exact, subnormals included). */
// @ts-ignore: decorator
@inline
export function decodeF16(h: u32): f32 {
  const magnitude = (h & 0x7fff) << 13;
  const value = reinterpret<f32>(magnitude) * reinterpret<f32>(0x77800000);
  const bits = magnitude >= 0x0f800000 ? magnitude | 0x7f800000 : reinterpret<u32>(value);
  return reinterpret<f32>(bits | ((h & 0x8000) << 16));
}
