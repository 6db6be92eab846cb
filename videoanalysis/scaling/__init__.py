"""`videoanalysis scale explain`: a release in a cluster comes in, the reasons for its replica counts go out.

cluster → objects → snapshot, then explanation → outlook → arithmetic, then presentation.
"""
