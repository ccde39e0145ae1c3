/** Who made the engine that answers. */
export type EngineProduct = 'docker' | 'podman';

/** In what engines of one API differ, where a container would be another. */
export type ProductTraits = {
  /** A tmpfs mount may have a number of files and an owner; else its owner is asked for by `U`, and memory alone bounds its files. */
  readonly boundsFiles: boolean;
  /** A container may have a runtime of its own; else what it names is passed over in silence. */
  readonly choosesRuntime: boolean;
  /** What a read-only container is given to write to without asking. */
  readonly writablePlaces: readonly string[];
  /** Its control groups are told by its own answer alone: in Docker's terms it denies those of the second version, or makes them up. */
  readonly namesControllers: boolean;
};

export const PRODUCT_TRAITS: Readonly<Record<EngineProduct, ProductTraits>> = {
  docker: {
    boundsFiles: true,
    choosesRuntime: true,
    writablePlaces: [],
    namesControllers: false,
  },
  podman: {
    boundsFiles: false,
    choosesRuntime: false,
    writablePlaces: ['/run', '/var/tmp'],
    namesControllers: true,
  },
};

/** `Components` of `GET /version`. */
export function productOf(
  components: readonly { Name?: string | undefined }[] | null | undefined,
): EngineProduct {
  return components?.some(({ Name }) => /podman/i.test(Name ?? '')) ? 'podman' : 'docker';
}
