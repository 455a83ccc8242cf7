"""Learners: one file, one algorithm."""

#: `learner:` key -> "module:class", the module relative to this package.
REGISTRY = {
    "ppo_learner": ".ppo:PPOLearner",
    "happo_learner": ".happo:HAPPOLearner",
    "hatrpo_learner": ".hatrpo:HATRPOLearner",
    "oappo_learner": ".oappo:OAPPOLearner",
    "oatrpo_learner": ".oatrpo:OATRPOLearner",
    "q_learner": ".q_learner:QLearner",
    "qtran_learner": ".qtran:QtranLearner",
    "roma_learner": ".roles.roma:ROMALearner",
    "pqn_learner": ".pqn:PQNLearner",
    "maddpg_learner": ".deterministic.maddpg:MADDPGLearner",
    "dvm_learner": ".deterministic.dvm:DVMLearner",
    "maptf_ppo_learner": ".transfer.ppo:MAPTFPPOLearner",
    "maptf_maddpg_learner": ".transfer.maddpg:MAPTFMADDPGLearner",
    "coma_learner": ".actor_critic.coma:COMALearner",
    "pac_learner": ".actor_critic.pac:PACLearner",
    "seac_learner": ".seac:SEACLearner",
    "actor_critic_learner": ".seac:SEACLearner",  # EPyMARL's name of A2C, which SEAC is where seac_coef is 0
}
