from hypothesis import settings

# a machine that is shared may stall: no test fails for being slow
settings.register_profile("latprof", deadline=None)
settings.load_profile("latprof")
