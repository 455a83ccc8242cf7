"""Networks of critics."""

#: name -> class; also any ``nn.Module`` of one's own
REGISTRY = {"v": ".v:VNetwork", "dcg": ".dcg:CoordinationGraph"}
