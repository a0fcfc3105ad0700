"""AAformer (Zhu et al., TNNLS 2023): person re-identification with parts aligned by optimal transport."""
