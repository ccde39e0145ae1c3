import { createHash } from 'node:crypto';
import { LABEL, MANAGED_BY } from '../labels.ts';
import type { ObjectMeta } from './kube-objects.ts';

/** Holds the instance's name where a label cannot. */
export const INSTANCE_ANNOTATION = 'podgate.dev/instance';
/** On an instance's Lease: what its canaries found, for those that do not lead. */
export const BOARD_ANNOTATION = 'podgate.dev/isolation';

const LABEL_VALUE = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;

/** `text` itself where a label's value can hold it, else its digest. */
export function labelValue(text: string): string {
  return LABEL_VALUE.test(text) ? text : `h${digest(text, 40)}`;
}

/** Selects what one installation made, or one instance of it. Never another's. */
export function labelSelector(installation: string, instance?: string): string {
  const parts = [`${LABEL.managedBy}=${MANAGED_BY}`, `${LABEL.installation}=${labelValue(installation)}`];
  if (instance !== undefined) parts.push(`${LABEL.instance}=${labelValue(instance)}`);
  return parts.join(',');
}

/** An instance's Lease; a name of an object is lower case, an instance's is not. */
export function leaseName(installation: string, instance: string): string {
  return `podgate-${digest(`${installation}\n${instance}`, 24)}`;
}

/**
 * Whether an object is one, and what `labelSelector()` made selects it. What is listed may be deleted: a server, or what
 * stands between, that passes over the selector must not have another's pods deleted.
 */
export function isSelected(object: { metadata?: ObjectMeta } | null, selector: string): boolean {
  const { name = '', labels } = object?.metadata ?? {};
  const wanted = selector.split(',').filter(Boolean);
  return (
    name !== '' &&
    wanted.every((part) => {
      const [label = '', value] = part.split('=');
      return labels?.[label] === value;
    })
  );
}

function digest(text: string, length: number): string {
  return createHash('sha256').update(text).digest('hex').slice(0, length);
}
