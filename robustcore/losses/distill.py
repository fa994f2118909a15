"""The knowledge distillation term (Hinton et al. 2015) that objectives share; both sides keep their gradient."""

import torch.nn.functional as F

from robustcore.types import Logits, PerImage


def distillation(teacher_logits: Logits, student_logits: Logits, temperature: float = 1.0) -> PerImage:
    """tau^2 KL(softmax(teacher / tau) || softmax(student / tau)), (B,) in float32; tau = ``temperature`` > 0.

    Zero where both rows are equal up to a constant. tau^2 keeps the gradient's size nearly the same at every tau.
    """
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    student = F.log_softmax(student_logits.float() / temperature, dim=1)
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(dim=1)
