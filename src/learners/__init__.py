"""Learners: one file, one algorithm."""

#: `learner:` key -> "module:class", the module relative to this package.
REGISTRY = {
    "ppo_learner": ".ppo:PPOLearner",
    "happo_learner": ".happo:HAPPOLearner",
    "hatrpo_learner": ".hatrpo:HATRPOLearner",
    "oappo_learner": ".oappo:OAPPOLearner",
    "oatrpo_learner": ".oatrpo:OATRPOLearner",
    "seac_learner": ".seac:SEACLearner",
}
