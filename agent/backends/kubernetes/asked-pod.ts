import type { Container, Pod } from './kube-objects.ts';
import { CONTAINER } from './pod-spec.ts';

/** A pod as it was asked for, or as the server says that it made it. */
export type Asked = Pick<Pod, 'spec'> & { metadata?: { labels?: Record<string, string> } };

/** The one that user code is in. Others may stand beside it. */
export function sandboxContainer({ spec }: Asked): Container | undefined {
  return spec?.containers?.find(({ name }) => name === CONTAINER);
}
