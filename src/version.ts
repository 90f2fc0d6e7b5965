/** Written into every file that subbyte makes; equal to the version in package.json (checked by a test). */
export const toolVersion = '0.1.0';
