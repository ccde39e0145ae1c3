import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';

/** A certificate and its key, both PEM. */
export type Certificate = { cert: string; key: string };

export type CertificateOptions = {
  name: string;
  /** Absent: the certificate is its own authority. */
  issuer?: { name: string; key: KeyObject };
  organization?: string;
  notBefore?: Date;
  notAfter?: Date;
};

export type Authority = Certificate & {
  /** A server's certificate for 127.0.0.1 and localhost, which is a client's too. */
  issue(options: { name: string; organization?: string; notBefore?: Date; notAfter?: Date }): Certificate;
};

/** A certificate authority that lives as long as the test. Certificates are written by hand: Node reads, but makes none. */
export function createAuthority(name = 'test authority'): Authority {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const own = certify({ name, subject: privateKey, issuer: { name, key: privateKey }, isAuthority: true });
  return {
    ...own,
    issue(options) {
      const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const issuer = { name, key: privateKey };
      return certify({ ...options, subject: pair.privateKey, issuer, isAuthority: false });
    },
  };
}

type Certify = {
  name: string;
  organization?: string;
  subject: KeyObject;
  issuer: { name: string; key: KeyObject };
  isAuthority: boolean;
  notBefore?: Date;
  notAfter?: Date;
};

const HOUR_MS = 3_600_000;
const ECDSA_SHA256 = sequence(oid([1, 2, 840, 10045, 4, 3, 2]));

/** X.509 version 3 (RFC 5280 4.1). */
function certify(options: Certify): Certificate {
  const { subject, issuer, isAuthority } = options;
  const { notAfter = new Date(Math.max(Date.now(), options.notBefore?.getTime() ?? 0) + 24 * HOUR_MS) } =
    options;
  const publicKey = generatePublic(subject);
  const { notBefore = new Date(Math.min(Date.now(), notAfter.getTime()) - HOUR_MS) } = options;
  const body = sequence(
    tagged(0xa0, integer(Buffer.of(2))),
    integer(Buffer.concat([Buffer.of(1), randomBytes(8)])),
    ECDSA_SHA256,
    distinguished(issuer.name),
    sequence(time(notBefore), time(notAfter)),
    distinguished(options.name, options.organization),
    publicKey,
    tagged(0xa3, sequence(...extensions(isAuthority))),
  );
  const signature = sign('sha256', body, issuer.key);
  const certificate = sequence(body, ECDSA_SHA256, tagged(0x03, Buffer.concat([Buffer.of(0), signature])));
  const lines = certificate
    .toString('base64')
    .match(/.{1,64}/g)
    ?.join('\n');
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
    key: subject.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

function extensions(isAuthority: boolean): Buffer[] {
  const constraints = isAuthority ? sequence(tagged(0x01, Buffer.of(0xff))) : sequence();
  const basic = sequence(oid([2, 5, 29, 19]), tagged(0x01, Buffer.of(0xff)), tagged(0x04, constraints));
  if (isAuthority) return [basic];
  const names = sequence(tagged(0x82, Buffer.from('localhost')), tagged(0x87, Buffer.of(127, 0, 0, 1)));
  return [basic, sequence(oid([2, 5, 29, 17]), tagged(0x04, names))];
}

function generatePublic(key: KeyObject): Buffer {
  const { x, y } = key.export({ format: 'jwk' });
  const point = [x, y].map((part) => Buffer.from(part ?? '', 'base64url'));
  const algorithm = sequence(oid([1, 2, 840, 10045, 2, 1]), oid([1, 2, 840, 10045, 3, 1, 7]));
  return sequence(algorithm, tagged(0x03, Buffer.concat([Buffer.of(0, 4), ...point])));
}

function distinguished(name: string, organization?: string): Buffer {
  const part = (type: number, value: string) =>
    tagged(0x31, sequence(oid([2, 5, 4, type]), tagged(0x0c, Buffer.from(value))));
  return sequence(...(organization === undefined ? [] : [part(10, organization)]), part(3, name));
}

function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/\D/g, '').slice(0, 14);
  return tagged(0x18, Buffer.from(`${digits}Z`));
}

function oid(parts: readonly number[]): Buffer {
  const [first = 0, second = 0, ...rest] = parts;
  const bytes = [first * 40 + second];
  for (const part of rest) {
    const groups = [part & 0x7f];
    for (let left = part >>> 7; left > 0; left >>>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return tagged(0x06, Buffer.from(bytes));
}

function integer(bytes: Buffer): Buffer {
  return tagged(0x02, bytes);
}

function sequence(...parts: Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts));
}

function tagged(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.of(tag, ...size), content]);
}
