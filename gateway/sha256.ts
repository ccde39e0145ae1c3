/** SHA-256 of a text's UTF-8, in hex. An adapter whose platform hashes at once gives that: Web Crypto takes a thread's detour. */
export type Sha256 = (text: string) => string | Promise<string>;

/** By Web Crypto, which every platform has. */
export const webSha256: Sha256 = async (text) => {
  const bytes = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
};
