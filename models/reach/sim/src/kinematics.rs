//! Geometry of the arm: two links in a plane, the elbow always bent to the left.

/// A point or a vector in the plane, in metres or metres per second.
pub type Vec2 = [f64; 2];

/// Length of the upper arm, m.
pub const UPPER: f64 = 0.30;
/// Length of the forearm, m.
pub const FORE: f64 = 0.25;

/// The sum `a + k b`.
pub fn add(a: Vec2, k: f64, b: Vec2) -> Vec2 {
    [a[0] + k * b[0], a[1] + k * b[1]]
}

/// The difference `a - b`.
pub fn sub(a: Vec2, b: Vec2) -> Vec2 {
    add(a, -1.0, b)
}

/// Euclidean length.
pub fn length(a: Vec2) -> f64 {
    libm::hypot(a[0], a[1])
}

/// The scalar product.
pub fn dot(a: Vec2, b: Vec2) -> f64 {
    a[0] * b[0] + a[1] * b[1]
}

/// Positive when `b` lies to the left of `a`.
pub fn cross(a: Vec2, b: Vec2) -> f64 {
    a[0] * b[1] - a[1] * b[0]
}

/// The unit vector at `angle` rad from the x axis.
pub fn unit(angle: f64) -> Vec2 {
    [libm::cos(angle), libm::sin(angle)]
}

/// `a` turned by `angle` rad to the left.
pub fn turned(a: Vec2, angle: f64) -> Vec2 {
    let [c, s] = unit(angle);
    [c * a[0] - s * a[1], s * a[0] + c * a[1]]
}

/// Where the elbow is for these joint angles (rad).
pub fn elbow(q: [f64; 2]) -> Vec2 {
    add([0.0; 2], UPPER, unit(q[0]))
}

/// Where the tool is for these joint angles (rad).
pub fn tool(q: [f64; 2]) -> Vec2 {
    add(elbow(q), FORE, unit(q[0] + q[1]))
}

/// Joint angles (rad) that bring the tool to `p`, elbow angle in (0, pi); `None` out of reach.
pub fn inverse(p: Vec2) -> Option<[f64; 2]> {
    let square = dot(p, p);
    let cos = (square - UPPER * UPPER - FORE * FORE) / (2.0 * UPPER * FORE);
    if cos.is_nan() || cos.abs() >= 1.0 {
        return None;
    }
    let elbow = libm::acos(cos);
    let inner = libm::atan2(FORE * libm::sin(elbow), UPPER + FORE * cos);
    Some([libm::atan2(p[1], p[0]) - inner, elbow])
}

/// Velocity of the tool (m/s) at joint angles `q` (rad) and joint velocities `w` (rad/s).
pub fn tool_velocity(q: [f64; 2], w: [f64; 2]) -> Vec2 {
    let [fc, fs] = unit(q[0] + q[1]);
    let [uc, us] = unit(q[0]);
    let whole = w[0] + w[1];
    [-UPPER * us * w[0] - FORE * fs * whole, UPPER * uc * w[0] + FORE * fc * whole]
}

/// Joint velocities (rad/s) that move the tool with `v` (m/s). The elbow must not be straight or folded.
pub fn joint_velocity(q: [f64; 2], v: Vec2) -> [f64; 2] {
    let (upper, fore) = (unit(q[0]), unit(q[0] + q[1]));
    let determinant = libm::sin(q[1]);
    let shoulder = dot(v, fore) / (UPPER * determinant);
    let whole = -dot(v, upper) / (FORE * determinant);
    [shoulder, whole - shoulder]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverse_undoes_forward() {
        for i in 0..50 {
            let q = [-1.5 + 0.06 * f64::from(i), 0.4 + 0.045 * f64::from(i)];
            let back = inverse(tool(q)).expect("in reach");
            assert!((back[0] - q[0]).abs() < 1e-9 && (back[1] - q[1]).abs() < 1e-9);
        }
        assert_eq!(inverse([UPPER + FORE + 0.01, 0.0]), None);
        assert_eq!(inverse([0.0, 0.0]), None);
    }

    #[test]
    fn velocities_are_the_derivative_of_positions() {
        let (q, w, h) = ([0.3, 1.1], [0.7, -1.3], 1e-6);
        let ahead = tool([q[0] + h * w[0], q[1] + h * w[1]]);
        let behind = tool([q[0] - h * w[0], q[1] - h * w[1]]);
        let v = tool_velocity(q, w);
        for axis in 0..2 {
            assert!(((ahead[axis] - behind[axis]) / (2.0 * h) - v[axis]).abs() < 1e-8);
        }
        let back = joint_velocity(q, v);
        assert!((back[0] - w[0]).abs() < 1e-12 && (back[1] - w[1]).abs() < 1e-12);
    }
}
