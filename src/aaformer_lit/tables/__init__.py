"""The paper's tables out of run folders: collect runs, join them to rows by their config, compare, write.

Everything here is pure but `collect`, which reads files. A mean is only taken over runs that differ in nothing but the seed.
"""
