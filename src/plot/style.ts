// The typeface of plots: Inter, which ships as a package and has the Greek letters and signs of the axes, so that a PNG
// looks the same on a machine without fonts. SVG files name fallbacks.

export const fontFamily = 'Inter, Helvetica, Arial, sans-serif';
export const fontFile = '@expo-google-fonts/inter/400Regular/Inter_400Regular.ttf';
