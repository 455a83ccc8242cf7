"""Methods with tables in place of networks; no module here loads torch but :mod:`~oamarl.tabular.run`, a run."""
