import { createPrivateKey, X509Certificate } from 'node:crypto';
import { accessSync, constants, readFileSync } from 'node:fs';
import { Failure } from '../../../shared/errors.ts';
import { isLoopback } from '../../loopback.ts';
import { actsAsNobody } from './impersonation.ts';
import type { Cluster, User } from './kube-config.ts';
import { configRefusal, fileTrouble } from './kube-config-files.ts';

/** A certificate with its chain, a bundle of authorities, a key, a token. */
export const MAX_CREDENTIAL_BYTES = 1_048_576;

/**
 * Throws a Failure where a context leads to no server, or to one that the user's credential must not be sent to: without
 * TLS everybody on the way reads it.
 */
export function checkServer(
  context: string,
  where: string,
  { cluster, user }: { cluster: Cluster; user: User | undefined },
): void {
  const { server, proxyUrl } = cluster;
  if (!URL.canParse(server) || !/^https?:/.test(server))
    throw configRefusal(`Context '${context}' of ${where} has a server that is no URL.`);
  if (proxyUrl && (!URL.canParse(proxyUrl) || !/^(https?|socks\w*):/.test(proxyUrl)))
    throw configRefusal(`Context '${context}' of ${where} has a proxy that is no URL.`);
  const isHere = isLoopback(new URL(server).hostname) && !proxyUrl;
  if (server.startsWith('http:') && !isHere && user && hasSecret(user))
    throw configRefusal(
      `Context '${context}' of ${where} has a server without TLS, to which no credential is sent: use https.`,
    );
}

function hasSecret({ token, username, password, exec, authProvider }: User): boolean {
  return Boolean(token || username || password || exec || authProvider);
}

/** Throws a Failure that names the first that cannot be read. */
export function checkFiles(context: string, where: string, files: readonly (string | undefined)[]): void {
  for (const file of files) {
    if (!file) continue;
    try {
      const trouble = fileTrouble(file, MAX_CREDENTIAL_BYTES);
      if (trouble !== undefined)
        throw configRefusal(`Context '${context}' of ${where} names '${file}', which ${trouble}.`);
      accessSync(file, constants.R_OK);
    } catch (cause) {
      if (cause instanceof Failure) throw cause;
      throw configRefusal(
        `Context '${context}' of ${where} names the file '${file}', which cannot be read.`,
        cause,
      );
    }
  }
}

/** Throws a Failure that says what is wrong with a context's certificates, or whom it acts as, as far as it can be told before they are used. */
export function checkCredential(
  context: string,
  where: string,
  { cluster, user }: { cluster: Cluster; user: User | undefined },
): void {
  const place = `context '${context}' of ${where}`;
  const Place = `Context '${context}' of ${where}`;
  const authority = bytesOf(cluster.caFile, cluster.caData);
  if (authority)
    read(() => new X509Certificate(authority), `${Place} has a certificate authority that cannot be read.`);
  if (user && actsAsNobody(user))
    throw configRefusal(
      `${Place} has a user that acts as groups, a uid or more, and as nobody: set 'as' too.`,
    );
  const text = user && bytesOf(user.certFile, user.certData);
  if (!text) return;
  const certificate = read(
    () => new X509Certificate(text),
    `${Place} has a client certificate that cannot be read.`,
  );
  if (certificate.validToDate.getTime() < Date.now())
    throw configRefusal(
      `The client certificate of ${place} expired on ${certificate.validToDate.toISOString()}.`,
    );
  if (certificate.validFromDate.getTime() > Date.now())
    throw configRefusal(
      `The client certificate of ${place} is not valid before ${certificate.validFromDate.toISOString()}: is this machine's clock right?`,
    );
  const keyText = bytesOf(user.keyFile, user.keyData);
  if (!keyText) throw configRefusal(`${Place} has a client certificate without its key.`);
  const key = read(() => createPrivateKey(keyText), `${Place} has a client key that cannot be read.`);
  if (!certificate.checkPrivateKey(key))
    throw configRefusal(`${Place} has a client key that is not its certificate's.`);
}

/** What a file holds, or else the kubeconfig itself. */
export function bytesOf(file: string | undefined, data: string | undefined): Buffer | undefined {
  if (file) return readFileSync(file);
  // What stands there need not be text.
  return data ? Buffer.from(String(data), 'base64') : undefined;
}

function read<T>(parse: () => T, otherwise: string): T {
  try {
    return parse();
  } catch (cause) {
    throw configRefusal(otherwise, cause);
  }
}
