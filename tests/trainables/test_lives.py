"""A trial is started again however many machines it loses, as long as it gets on, but not when it dies of itself."""

from trainables.lives import MACHINES, TRIES, Lives


def test_a_process_that_dies_of_itself_has_four_tries():
    lives = Lives()
    said = []
    while not lives.spent():
        said.append(lives.lose(with_machine=False, step=10))
    assert len(said) == TRIES == 4
    assert said[0] == "its process was lost after step 10; try 2 of 4"
    assert lives.spent() == "given up after 4 tries"


def test_machines_that_go_cost_no_try_as_long_as_the_trial_gets_on():
    lives = Lives()
    for step in range(100):
        assert lives.lose(with_machine=True, step=step) == f"its machine was taken away after step {step}"
    for _ in range(TRIES - 1):
        lives.lose(with_machine=False, step=100)
        lives.lose(with_machine=True, step=100)
    assert not lives.spent()
    lives.lose(with_machine=False, step=100)
    assert lives.spent()


def test_a_trial_that_loses_machine_after_machine_where_it_is_may_be_what_kills_them():
    lives = Lives()
    for _ in range(MACHINES):
        assert not lives.spent()
        lives.lose(with_machine=True, step=20)
    assert lives.spent() == "given up after 10 machines that were lost before it got any further"
