// Elementary functions of one f32, the same on every GPU to within their stated errors.
//
// WGSL's own exp (3 + 2|x| ULP), tanh and sin (absolute errors of 1e-5 and 5e-4) are too coarse to agree with other
// backends. Methods, coefficients and errors are those of the WASM kernels (src/backends/wasm/kernels/common/math.ts);
// where that file shifts by adding a large constant, round() is used here, since a shader compiler may reassociate.
// NaN is told by its bits: implementations may assume that comparisons see none.
//
// sin and cos take a whole number and a frequency: sinCos(p, f) of p · f, reduced exactly. f = m · 2^e with whole m, so
// the fraction of p · f / 2π is p · (m · (2^e / 2π mod 1)) mod 1 in 64-bit fixed point, with as many bits of 1/2π as e
// asks for (Payne and Hanek 1983). Within 2e-7 for every position and frequency.

/** 256 bits of 1 / 2π after the binary point. */
const inverseTwoPi = [0x28be60db, 0x9391054a, 0x7f09d5f4, 0x7d4d3770, 0x36d8a566, 0x4f10e410, 0x7f9458ea, 0xf7aef158];

export const mathSource = `
var<private> infinityBits: u32 = 0x7f800000u;
fn infinity() -> f32 { return bitcast<f32>(infinityBits); }
fn notANumber() -> f32 { return bitcast<f32>(infinityBits | 0x00400000u); }
fn isNan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
/* The larger of two; NaN when one is NaN. */
fn larger(a: f32, b: f32) -> f32 { return select(select(b, a, a >= b), a, isNan(a)); }

fn expOf(x: f32) -> f32 {
  let c = clamp(x, -104.0, 89.0);
  let n = round(c * 1.44269502);
  let r = (c - n * 0.693359375) - n * -0.00021219444170128554;
  var p = r * 0.00019891031843144447 + 0.0013933687005192041;
  p = p * r + 0.00833331048488617;
  p = p * r + 0.041666463017463684;
  p = p * r + 0.1666666716337204;
  p = p * r + 0.5;
  p = (p * (r * r) + r) + 1.0;
  let first = i32(n) >> 1u;
  let second = i32(n) - first;
  let y = (p * bitcast<f32>((first + 127) << 23u)) * bitcast<f32>((second + 127) << 23u);
  return select(y, x, isNan(x));
}

fn logOf(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  if (isNan(x) || bits == 0x7f800000u) { return x; }
  if ((bits & 0x7fffffffu) < 0x00800000u) { return -infinity(); }
  if (bits >= 0x80000000u) { return notANumber(); }
  let offset = bitcast<i32>(bits) - 0x3f3504f3;
  let n = f32(offset >> 23u);
  let m = bitcast<f32>((offset & 0x007fffff) + 0x3f3504f3);
  let s = (m - 1.0) / (m + 1.0);
  let z = s * s;
  let p = ((z * 0.2222222222222222 + 0.2857142857142857) * z + 0.4) * z + 0.6666666666666666;
  return n * 0.6931471805599453 + ((s + s) + s * (z * p));
}

fn sigmoidOf(x: f32) -> f32 { return 1.0 / (1.0 + expOf(-x)); }
fn siluOf(x: f32) -> f32 { return x / (1.0 + expOf(-x)); }

fn tanhOf(x: f32) -> f32 {
  let z = x * x;
  var p = z * 0.002292744815349579 + -0.008343945257365704;
  p = p * z + 0.02176891826093197;
  p = p * z + -0.053959257900714874;
  p = p * z + 0.13333304226398468;
  p = p * z + -0.3333333432674408;
  let magnitude = abs(x);
  let large = sign(x) * (1.0 - 2.0 / (expOf(magnitude + magnitude) + 1.0));
  return select(select(large, x + x * (z * p), magnitude < 0.625), x, isNan(x));
}

/* Φ(x), the normal distribution function. */
fn normalOf(x: f32) -> f32 {
  let a = min(abs(x), 19.0);
  let t = a * 0.70710678118654752;
  let z = x * 0.70710678118654752;
  let w = z * z;
  var e = w * 7.875874871388078e-5 + -0.000801686430349946;
  e = e * w + 0.005189087241888046;
  e = e * w + -0.02685421146452427;
  e = e * w + 0.11283594369888306;
  e = e * w + -0.3761262595653534;
  e = e * w + 1.1283791065216064;
  let near = 0.5 * (1.0 + z * e);
  let s = 1.0 / (t * 0.7 + 1.0);
  let u = s * 3.475558042526245 + -1.3325892686843872;
  var q = u * -1.05209146568086e-5 + -2.6076281756104436e-6;
  q = q * u + 0.00014928969928646475;
  q = q * u + -0.00013895903248339891;
  q = q * u + -0.0021108968649059534;
  q = q * u + 0.0031245481222867966;
  q = q * u + 0.05880577117204666;
  q = q * u + 0.23914313316345215;
  q = q * u + 0.22697056829929352;
  /* −x²/2 = −h²/2 − (a − h)(a + h)/2 with h the upper 12 bits of a. */
  let h = bitcast<f32>(bitcast<u32>(a) & 0xfffff000u);
  let decay = expOf(-0.5 * (h * h)) * expOf(-0.5 * ((a - h) * (a + h)));
  let tail = 0.5 * decay * q;
  let far = select(tail, 1.0 - tail, x > 0.0);
  return select(select(far, near, t <= 1.0), x, isNan(x));
}

fn geluOf(x: f32) -> f32 { return x * normalOf(x); }
/* x/2 · (1 + tanh u) = x / (1 + e^−2u), u = √(2/π) (x + 0.044715 x³) */
fn geluTanhOf(x: f32) -> f32 {
  return x / (1.0 + expOf(-1.5957691216057308 * (x + 0.044715 * (x * x * x))));
}
`;

export const sinCosSource = `
const inverseTwoPi = array<u32, 8>(${inverseTwoPi.map((word) => `0x${word.toString(16)}u`).join(', ')});

/* Bits first … first + 31 of 1/2π after the binary point; zeros before it. */
fn bitsOfInverseTwoPi(first: i32) -> u32 {
  var word = 0u;
  let at = first >> 5u;
  let shift = u32(first & 31);
  if (at >= 0 && at < 8) { word = inverseTwoPi[at] << shift; }
  if (shift > 0u && at >= -1 && at < 7) { word |= inverseTwoPi[at + 1] >> (32u - shift); }
  return word;
}

/* The two halves of a · b. */
fn product64(a: u32, b: u32) -> vec2u {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let mid = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let mid2 = (a & 0xffffu) * (b >> 16u) + (mid & 0xffffu);
  return vec2u((a >> 16u) * (b >> 16u) + (mid >> 16u) + (mid2 >> 16u), (mid2 << 16u) | (low & 0xffffu));
}

/* (cos, sin) of position · frequency. */
fn cosSin(position: i32, frequency: f32) -> vec2f {
  let bits = bitcast<u32>(frequency);
  let exponent = i32((bits >> 23u) & 0xffu);
  if (exponent == 0xff) { return vec2f(notANumber()); }
  let m = select((bits & 0x7fffffu) | 0x800000u, 0u, exponent == 0);
  let e = exponent - 150;
  let high = bitsOfInverseTwoPi(e);
  let middle = bitsOfInverseTwoPi(e + 32);
  let low = product64(m, bitsOfInverseTwoPi(e + 64)).x;
  /* turns of one position, 64 bits after the binary point */
  let product = product64(m, middle);
  let turnLow = product.y + low;
  let turnHigh = m * high + product.x + select(0u, 1u, turnLow < low);
  let p = u32(abs(position));
  let turns = p * turnHigh + product64(p, turnLow).x;
  let quadrant = (turns + 0x20000000u) >> 30u;
  let r = f32(bitcast<i32>(turns - (quadrant << 30u))) * 1.4629180792671596e-9; /* 2π / 2³², |r| ≤ π/4 */
  let z = r * r;
  let s = r + r * z * (-1.6666654611e-1 + z * (8.3321608736e-3 + z * -1.9515295891e-4));
  let c = 1.0 - 0.5 * z + z * z * (4.166664568298827e-2 + z * (-1.388731625493765e-3 + z * 2.443315711809948e-5));
  let swapped = (quadrant & 1u) == 1u;
  let cosine = select(c, s, swapped);
  let sine = select(s, c, swapped);
  let negative = (position < 0) != (bits >= 0x80000000u);
  return vec2f(
    select(cosine, -cosine, quadrant == 1u || quadrant == 2u),
    select(sine, -sine, (quadrant >= 2u) != negative));
}
`;
